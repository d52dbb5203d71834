"""tools/rehearsing/agreement.py: whose tokens differ."""

from __future__ import annotations

from tools.rehearsing.agreement import Difference, by_device, differences, odd_nodes
from tools.rehearsing.results import ClipId, Made


def made(*lines: str, device: str = "cpu", features: str = "") -> Made:
    """A clip per line."""
    by_clip = {ClipId("a", n, f"{n}.wav"): line.encode() for n, line in enumerate(lines)}
    return Made("x", by_clip, {"a": features}, (), {}, device, 1, 1.0, 0.0)


def test_the_same() -> None:
    """No difference."""
    assert differences(made("1", "2"), made("1", "2")) is None
    assert odd_nodes({"n1": made("1"), "n2": made("1")}) == {}


def test_a_clip_that_differs() -> None:
    """The first is named; a clip that one of both lacks counts."""
    assert differences(made("1", "2", "3"), made("1", "x", "y")) == Difference(2, 3, "1.wav")
    assert differences(made("1", "2"), made("1")) == Difference(1, 2, "1.wav")
    assert str(Difference(2, 3, "1.wav")) == "2 of 3 clips differ, the first is 1.wav"


def test_features_count() -> None:
    """Floats stand beside the lines."""
    found = differences(made("1", features="f"), made("1", features="g"))
    assert str(found) == "features differ, and no line"
    nodes = {"n1": made("1", features="f"), "n2": made("1", features="g"), "n3": made("1", features="f")}
    assert list(odd_nodes(nodes)) == ["n2"]


def test_most_nodes_are_right() -> None:
    """The majority decides, clip by clip; in a tie all nodes are named."""
    nodes = {"n1": made("1", "2"), "n2": made("1", "x"), "n3": made("1", "2")}
    assert odd_nodes(nodes) == {"n2": Difference(1, 2, "1.wav")}
    assert odd_nodes({"n1": made("1", "2"), "n2": made("1", "x")}).keys() == {"n1", "n2"}
    assert odd_nodes({"n1": made("1")}) == odd_nodes({}) == {}


def test_devices() -> None:
    """Nodes with the same device are compared with each other."""
    groups = by_device([("n1", made("1", device="A")), ("n2", made("2", device="B")), ("n3", made("1", device="A"))])
    assert {device: list(group) for device, group in groups.items()} == {"A": ["n1", "n3"], "B": ["n2"]}
