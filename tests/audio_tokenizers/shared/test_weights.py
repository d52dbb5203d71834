"""shared/weights.py: weights that do not fit are an error that names them, what lies beside them is logged."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.shared.weights import Naming, Weights

STATE = {"body.weight": torch.arange(6.0).reshape(3, 2), "body.bias": torch.ones(3)}
BODY = Naming(parts=("body",), prefixes=("encoder.",), unneeded=r"decoder\.|body\.mask$")
EPOCH = torch.tensor(3)


class Net(torch.nn.Module):
    """One linear layer, made without storage."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.body = torch.nn.Linear(2, 3)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The lines of the log."""
    monkeypatch.setattr(logging.getLogger("tar2tokens"), "propagate", True)
    caplog.set_level(logging.INFO, "tar2tokens")
    return caplog


def save(path: Path, state: Mapping[str, Any], **how: Any) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(state), path)
    else:
        torch.save(dict(state), path, **how)
    return path


def load(*paths: Path, naming: Naming = BODY) -> Net:
    net = Net()
    Weights(paths, naming, "config.json").read().fill(net)
    return net


def refusal(*paths: Path) -> str:
    with pytest.raises(ModelFilesError) as caught:
        load(*paths)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 800
    return message


def same(net: Net) -> bool:
    return all(torch.equal(tensor, STATE[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_what_is_used_arrives_and_is_ready_for_inference(name: str, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """Both kinds of file; what is known and not needed is passed over in silence."""
    net = load(save(tmp_path / name, {**STATE, "decoder.weight": torch.zeros(1), "body.mask": torch.zeros(1)}))
    assert same(net)
    assert not net.body.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert log.text == ""


def test_the_network_does_not_stay_tied_to_the_file(tmp_path: Path) -> None:
    """A file may be replaced while a run lasts; its bytes must not reach a network that has been loaded."""
    for name in ("model.safetensors", "model.pt"):
        path = save(tmp_path / name, STATE)
        net = load(path)
        path.write_bytes(bytes(path.stat().st_size))
        assert same(net)


def test_other_floats_and_other_strides_are_computed_alike(tmp_path: Path) -> None:
    """Half precision is widened, and a transposed tensor laid out anew, as products may round by both."""
    state = {"body.weight": STATE["body.weight"].T.contiguous().T.half(), "body.bias": STATE["body.bias"].double()}
    net = load(save(tmp_path / "model.pt", state))
    assert same(net)
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32}
    assert net.body.weight.is_contiguous()


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda s: {"state_dict": s, "epoch": 4, "optimizer": {"state": {0: {"exp_avg": EPOCH}}}}, "epoch, optimizer"),
        (lambda s: {"model_state_dict": s, "step": EPOCH}, "step"),
        (lambda s: {"state_dict": {"model": s}, "best": np.float64(0.5)}, "best"),
        (lambda s: {f"module.{name}": tensor for name, tensor in s.items()}, ""),
        (lambda s: {"state_dict": {f"module.encoder.{name}": tensor for name, tensor in s.items()}}, ""),
        (lambda s: {**s, "epoch": 4, "args": argparse.Namespace(lr=1)}, "args, epoch"),
        (lambda s: {"encoder.body.weight": s["body.weight"], "body.bias": s["body.bias"], "lm_head.bias": EPOCH}, "lm_head"),
        (lambda s: {**s, "encoder.head.0.weight": EPOCH, "encoder.head.0.bias": EPOCH, "ema": s}, "ema, encoder.head"),
        (lambda s: {**s, **{f"head{i}.weight": EPOCH for i in range(9)}}, ", ".join(f"head{i}" for i in range(8)) + ", ..."),
    ],
)
def test_what_a_trainer_adds_changes_nothing(
    wrap: Callable[[dict[str, Any]], dict[str, Any]], words: str, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """A state dict in a dictionary, names with a prefix, other entries: they load, and one line names what is not used."""
    path = save(tmp_path / "model.pt", wrap(STATE))
    assert same(load(path))
    assert [record.message for record in log.records] == ([f"{path}: not used: {words}"] if words else [])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"body.bias": None}, "1 missing: body.bias"),
        (
            {"body.bias": None, "body.weight": None, "rest.w": EPOCH},
            "2 missing: body.bias, body.weight; beside them the file has rest",
        ),
        ({"body.more": torch.ones(1)}, "1 unknown: body.more"),
        ({"encoder.body.more": torch.ones(1)}, "1 unknown: encoder.body.more"),
        ({f"body.{i}": torch.ones(1) for i in range(7)}, "7 unknown: body.0, body.1, body.2, body.3, body.4, ..."),
        ({"body.weight": torch.ones(2, 3)}, "1 of another shape: body.weight [2, 3] instead of [3, 2]"),
        (
            {"body.weight": torch.ones(3, 2, dtype=torch.int8)},
            "1 of another shape: body.weight torch.int8 instead of floats",
        ),
        ({"body.bias": 5}, "1 missing: body.bias; beside them the file has body.bias"),
    ],
)
def test_what_changes_the_network_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    """A missing tensor, one of another shape or kind, one below a used module: with the file, and what it should fit."""
    state = {name: value for name, value in {**STATE, **changes}.items() if value is not None}
    path = save(tmp_path / "model.pt", state)
    assert refusal(path) == f"{path}: does not fit config.json: {problem}"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"module.body.bias": torch.ones(3)}, "body.bias and module.body.bias"),
        ({"state_dict": {"body.bias": torch.ones(3)}}, "body.bias and state_dict.body.bias"),
        ({"model": {"encoder.body.bias": torch.ones(3)}}, "body.bias and model.encoder.body.bias"),
        ({"body.weight_g": torch.ones(3, 1), "body.weight_v": torch.ones(3, 2)}, "body.weight_g and body.weight"),
    ],
)
def test_two_tensors_of_one_name_are_both_named(changes: dict[str, Any], names: str, tmp_path: Path) -> None:
    """Which of them is meant nobody can know: one of an average and of the last step, say."""
    path = save(tmp_path / "model.pt", {**STATE, **changes})
    name = "body.weight" if "weight" in names else "body.bias"
    assert refusal(path) == f"{path}: expected one tensor for {name}, found {names}: delete the one that is not meant"


def test_shards_are_one_file(tmp_path: Path) -> None:
    """Whichever shard a tensor is in; one that two of them have is an error that names both."""
    one, two = (save(tmp_path / f"{i}.safetensors", {name: STATE[name]}) for i, name in enumerate(STATE))
    assert same(load(one, two))
    save(two, STATE)
    assert "found body.weight in 0.safetensors and body.weight in 1.safetensors" in refusal(one, two)
    save(two, {"body.bias": torch.ones(2)})
    assert refusal(one, two).startswith(f"{tmp_path}: does not fit config.json: 1 of another shape: body.bias [2]")


@pytest.mark.parametrize("leaves", [("weight_g", "weight_v"), tuple(f"parametrizations.weight.original{i}" for i in (0, 1))])
def test_weight_norms_become_weights(leaves: tuple[str, str], tmp_path: Path) -> None:
    """Either spelling of torch's, over any axis; half a pair, or one that does not fit together, is an error."""
    norm, direction = (f"body.{leaf}" for leaf in leaves)
    state = {norm: torch.tensor([[2.0], [3.0], [4.0]]), direction: torch.randn(3, 2), "body.bias": torch.ones(3)}
    path = save(tmp_path / "model.pt", state)
    assert torch.allclose(load(path).body.weight.norm(dim=1), torch.tensor([2.0, 3.0, 4.0]))
    save(path, {**state, norm: torch.ones(1, 2)})
    assert refusal(path).endswith(f"{norm} [1, 2] instead of [3, 1]")
    weights = Weights([path], dataclasses.replace(BODY, norm_axes={"body": 1}), "config.json").read()
    assert torch.allclose(weights.tensors["body.weight"].norm(dim=0), torch.ones(2))
    del state[norm]
    save(path, state)
    assert refusal(path).endswith(f"1 missing: body.weight; 1 unknown: {direction}")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_file_that_is_no_weights_is_named(name: str, tmp_path: Path) -> None:
    """Whatever a reader of such files raises becomes one message."""
    (tmp_path / name).write_bytes(b"PK not really")
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: cannot be read as weights: download it again")


@pytest.mark.parametrize("value", [[STATE], STATE["body.bias"], 3])
def test_a_pickle_of_something_else_is_named(value: object, tmp_path: Path) -> None:
    """torch.save keeps anything."""
    torch.save(value, tmp_path / "model.pt")
    assert "expected a state dict of tensors, found" in refusal(tmp_path / "model.pt")


def test_a_pickle_that_runs_code_does_not(tmp_path: Path) -> None:
    """Weights from strangers are data: objects of other classes are never made, even beside tensors that fit."""

    class Evil:
        def __init__(self, *call: object) -> None:
            self.call = call

        def __reduce__(self) -> tuple[object, ...]:
            return self.call[0], self.call[1:]

    ran = tmp_path / "ran"
    path = save(tmp_path / "model.pt", {**STATE, "evil": Evil(exec, f"open({str(ran)!r}, 'w')")})
    assert same(load(path))
    for evil in (Evil(Path.touch, ran), Evil(os.mkdir, str(ran)), Evil(os.system, f"touch {ran}")):
        assert "save its state dict alone" in refusal(save(path, {**STATE, "evil": evil}))
    torch.save(Evil(exec, f"open({str(ran)!r}, 'w')"), path)
    assert "expected a state dict" in refusal(path)
    assert not ran.exists()


def test_files_are_mapped_where_their_format_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large file only what is used is read. What torch wrote before 1.6 is no zip, and cannot be mapped."""
    seen = []
    real = torch.load

    def watched(*args: Any, **how: Any) -> Any:
        seen.append((how["mmap"], how["weights_only"]))
        return real(*args, **how)

    monkeypatch.setattr(torch, "load", watched)
    assert same(load(save(tmp_path / "model.pt", STATE)))
    assert same(load(save(tmp_path / "old.pt", STATE, _use_new_zipfile_serialization=False)))
    assert seen == [(True, True), (False, True)]


def test_what_a_network_computes_by_itself_is_refused(tmp_path: Path) -> None:
    """A later version of a library may do so; such a buffer would be without a value."""
    net = Net()
    net.register_buffer("ages", torch.empty(3, device="meta"), persistent=False)
    with pytest.raises(UsageError, match=r"Net .* computes ages"):
        Weights([save(tmp_path / "model.pt", STATE)], BODY, "config.json").read().fill(net)
