from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from audio_tokenizers.registry import get_factory
from benchmarks.models import CASES, precisions
from jobs.spec import load_preset


@pytest.mark.parametrize(
    ("options", "device", "expected"),
    [
        ({"tf32": (False, "")}, "cpu", {"fp32": {}}),
        ({"tf32": (False, "")}, "cuda", {"fp32": {}, "tf32": {"tf32": True}}),
        ({"bf16": (False, "")}, "cpu", {"fp32": {}, "bf16": {"bf16": True}}),
        ({"precision": ("fp32", "fp32, tf32 or bf16: faster")}, "cpu", {"fp32": {}, "bf16": {"precision": "bf16"}}),
        (
            {"precision": ("fp32", "fp32, tf32 or bf16"), "tf32": (False, "older word for precision=tf32")},
            "cuda",
            {"fp32": {}, "tf32": {"precision": "tf32"}, "bf16": {"precision": "bf16"}},
        ),
        ({"dtype": ("float16", "as stored")}, "cuda", {"fp32": {}}),
    ],
)
def test_precisions_are_what_the_options_offer(options: dict[str, Any], device: str, expected: dict[str, Any]) -> None:
    """Once a backend has bf16, the benchmarks measure it; how features are stored is not a precision."""
    assert precisions(SimpleNamespace(options=options), device) == expected


def test_every_backend_that_computes_is_a_case() -> None:
    """A new backend is measured, or left out on purpose: these look something up, and do not use the device."""
    measured = {load_preset(name).backend for name in CASES}
    from audio_tokenizers.registry import backend_names

    assert set(backend_names()) - measured == {"mulaw", "cosyvoice_text"}
    assert all("tf32" in get_factory(name).options for name in measured)
