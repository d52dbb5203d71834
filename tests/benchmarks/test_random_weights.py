from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.tiny_hf import CODECS

from audio_tokenizers.base import Scalar
from benchmarks.models import CASES, backwards
from benchmarks.random_weights import enliven


def codes_of(directory: Path, codec: str) -> npt.NDArray[Any]:
    case = CASES[codec]
    options = case.build(directory, "cpu", True)
    widest: dict[str, dict[str, Scalar]] = {"encodec": {"bandwidth": 24.0}, "xcodec": {"bandwidth": 4}}
    most = widest.get(codec, {})
    upstream = case.upstream({"num_quantizers": None, "bandwidth": None, **options, **most}, "cpu")
    return upstream(backwards({"dac": 44100, "xcodec": 16000}.get(codec, 24000))[: 3 * 16000])["tokens"]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codebook_is_in_use(tmp_path: Path, codec: str) -> None:
    """As in a trained codec, no codebook gives one token for all frames: a comparison of those would show nothing."""
    codes = codes_of(tmp_path, codec)
    assert min(len(np.unique(row)) for row in codes) > codes.shape[1] // 10


def test_layers_have_outputs_of_unit_variance() -> None:
    """However deep a network and whatever its start: signals neither die nor explode, weight-normed layers among them."""
    torch.manual_seed(0)
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(8, 8, 3))
    with torch.no_grad():
        layers = [torch.nn.Conv1d(1, 8, 3), *(torch.nn.Conv1d(8, 8, 3) for _ in range(20)), normed]
        network = torch.nn.Sequential(*layers)
        wave = torch.randn(1, 1, 1000)
        enliven(network, lambda: network(wave))
        hidden = wave
        for layer in layers:
            hidden = layer(hidden)
            assert hidden.std().item() == pytest.approx(1, rel=1e-3)


def test_nothing_stays_behind() -> None:
    """Later calls run the model as it is, without hooks."""
    network = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with torch.no_grad():
        enliven(network, lambda: network(torch.randn(100, 4)))
        assert torch.equal(network(torch.ones(1, 4)), torch.nn.functional.linear(torch.ones(1, 4), *network[0].parameters()))
    assert not network[0]._forward_hooks
