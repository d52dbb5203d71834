"""tools/fetching/model_check.py: a directory is described by its backend, and one second is encoded with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support.tiny_higgs import build_original_layout

from audio_tokenizers.base import BackendInfo, Batching, Field, Options, Utterance, Waveform
from audio_tokenizers.errors import ModelFilesError
from jobs.spec import Preset
from tools.fetching import model_check
from tools.fetching.model_check import describe_directory, encode_one_second


@pytest.fixture(scope="module")
def higgs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in the published layout."""
    return build_original_layout(tmp_path_factory.mktemp("higgs") / "tokenizer")


def test_a_whole_directory_is_described(higgs: Path) -> None:
    """With the options that its preset has, and the directory in place of the hub id."""
    assert describe_directory("higgs", higgs).name == "higgs"


def test_a_cut_file_is_an_error(higgs: Path, tmp_path: Path) -> None:
    """The message is the backend's own."""
    (tmp_path / "config.json").write_bytes((higgs / "config.json").read_bytes())
    (tmp_path / "model.pth").write_bytes((higgs / "model.pth").read_bytes()[:-1000])
    with pytest.raises(ModelFilesError, match=r"model\.pth: cut after"):
        describe_directory("higgs", tmp_path)


def test_a_backend_without_files_encodes_too() -> None:
    """mu-law has no model_path to give; what is said is the same every time."""
    assert encode_one_second("mulaw", None) == ["tokens: uint8 [1, 8000], values 27 to 228"]


class Clips:
    """A backend that takes whole clips with their text, and wants two seconds of them."""

    name = "clips"
    options: ClassVar = {"model_path": ("", "directory")}
    info = BackendInfo(
        name="clips",
        sample_rate=16000,
        hop_length=320,
        fields=(Field(name="ids", form="list", codebook_size=10), Field(name="states", form="features", width=4)),
        mono="mean",
        min_samples=32000,
        max_tokens_per_fragment=None,
        batching=Batching.SINGLE,
        max_batch=1,
        needs_text=True,
        recipe={},
    )

    def load(self, options: Options, device: str) -> Clips:
        assert (options, device) == ({"model_path": "there"}, "cpu")
        return self

    def resample(self, wave: Waveform, sample_rate: int) -> Waveform:
        assert sample_rate == self.info.sample_rate
        return wave

    def encode_clips(self, clips: Sequence[Utterance]) -> list[dict[str, Any]]:
        (clip,) = clips
        assert clip.text
        assert clip.wave.dtype == np.float32
        return [{"ids": np.zeros(0, np.int32), "states": np.ones((len(clip.wave) // 320, 4), np.float16)}]


def test_a_backend_of_whole_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a text, and as much audio as it needs; each field of the record is told, an empty one too."""
    monkeypatch.setattr(model_check, "load_preset", lambda _: Preset("clips"))
    monkeypatch.setattr(model_check, "get_factory", lambda _: Clips())
    assert encode_one_second("clips", Path("there")) == ["ids: int32 [0]", "states: float16 [100, 4], values 1 to 1"]
