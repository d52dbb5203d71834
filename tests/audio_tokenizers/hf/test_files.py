from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.hf.files import Checkpoint, open_checkpoint

PUBLISHED: dict[str, dict[str, Any]] = {
    # What the config.json of each published checkpoint says of its grid of codes.
    "kyutai/mimi": {"model_type": "mimi", "sampling_rate": 24000, "frame_rate": 12.5, "upsampling_ratios": [8, 6, 5, 4]}
    | {"num_quantizers": 32, "num_semantic_quantizers": 1, "codebook_size": 2048, "audio_channels": 1},
    "descript/dac_44khz": {"model_type": "dac", "sampling_rate": 44100, "downsampling_ratios": [2, 4, 8, 8]}
    | {"n_codebooks": 9, "codebook_size": 1024, "hop_length": 512},
    "descript/dac_24khz": {"model_type": "dac", "sampling_rate": 24000, "downsampling_ratios": [2, 4, 5, 8]}
    | {"n_codebooks": 32, "codebook_size": 1024, "hop_length": 512},
    "facebook/encodec_24khz": {"model_type": "encodec", "sampling_rate": 24000, "upsampling_ratios": [8, 5, 4, 2]}
    | {"target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0], "codebook_size": 1024, "normalize": False, "chunk_length_s": None},
    "facebook/encodec_32khz": {"model_type": "encodec", "sampling_rate": 32000, "upsampling_ratios": [8, 5, 4, 4]}
    | {"target_bandwidths": [2.2], "codebook_size": 2048, "normalize": False, "chunk_length_s": None},
    "hf-audio/xcodec-hubert-librispeech": {"model_type": "xcodec", "sample_rate": 16000, "codebook_size": 1024}
    | {"target_bandwidths": [0.5, 1, 1.5, 2, 4], "acoustic_model_config": {"model_type": "dac"}}
    | {"semantic_model_config": {"model_type": "hubert"}},
}


def directory(folder: Path, config: dict[str, Any]) -> Path:
    """A config beside a safetensors file without a tensor."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


def opened(folder: Path, config: dict[str, Any]) -> Checkpoint:
    return open_checkpoint(str(directory(folder, config)))


@pytest.mark.parametrize(
    ("name", "rate", "hop", "codebooks", "size"),
    [
        ("kyutai/mimi", 24000, 1920, 32, 2048),
        ("descript/dac_44khz", 44100, 512, 9, 1024),
        ("descript/dac_24khz", 24000, 320, 32, 1024),
        ("facebook/encodec_24khz", 24000, 320, 32, 1024),
        ("facebook/encodec_32khz", 32000, 640, 4, 2048),
        ("hf-audio/xcodec-hubert-librispeech", 16000, 320, 8, 1024),
    ],
)
def test_the_grid_of_each_published_codec(tmp_path: Path, name: str, rate: int, hop: int, codebooks: int, size: int) -> None:
    """Rate, hop and codebooks are those of the published codecs, from config.json alone."""
    found = opened(tmp_path, PUBLISHED[name])
    assert (found.sample_rate, found.hop_length, found.codebooks, found.codebook_size) == (rate, hop, codebooks, size)


def test_bandwidths_are_codebooks(tmp_path: Path) -> None:
    """kbit/s become as many codebooks as in transformers; without one, its own default: lowest here, highest there."""
    encodec = opened(tmp_path / "a", PUBLISHED["facebook/encodec_24khz"])
    assert encodec.bandwidths == {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}
    assert encodec.choose_codebooks(None, None) == (2, 1.5)
    assert encodec.choose_codebooks(None, 6) == (8, 6.0)
    xcodec = opened(tmp_path / "b", PUBLISHED["hf-audio/xcodec-hubert-librispeech"])
    assert xcodec.bandwidths == {0.5: 1, 1: 2, 1.5: 3, 2: 4, 4: 8}
    assert xcodec.choose_codebooks(None, None) == (8, 4.0)


@pytest.mark.parametrize(
    ("name", "num_quantizers", "bandwidth", "message"),
    [
        ("kyutai/mimi", 33, None, "num_quantizers: expected null or 1 to 32, found 33"),
        ("kyutai/mimi", 0, None, "num_quantizers: expected null or 1 to 32, found 0"),
        ("kyutai/mimi", True, None, "num_quantizers"),
        ("kyutai/mimi", "8", None, "num_quantizers"),
        ("kyutai/mimi", None, 6.0, "bandwidth: mimi is asked for num_quantizers instead"),
        ("facebook/encodec_24khz", 8, None, "num_quantizers: encodec is asked for a bandwidth instead: 1.5, 3, 6, 12, 24"),
        ("facebook/encodec_24khz", None, 5, "bandwidth: expected one of 1.5, 3, 6, 12, 24 kbit/s, found 5"),
        ("hf-audio/xcodec-hubert-librispeech", None, True, "bandwidth: expected one of"),
    ],
)
def test_options_that_do_not_fit_the_codec(
    tmp_path: Path, name: str, num_quantizers: int | bool | str | None, bandwidth: float | bool | None, message: str
) -> None:
    """An option of the other kind of codec, or a value that it does not have, is one clear message."""
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, PUBLISHED[name]).choose_codebooks(num_quantizers, bandwidth)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("kyutai/mimi", {"model_type": "xcodec2"}, r"mimi, dac, encodec, xcodec\), found 'xcodec2': its encoder needs mel"),
        ("kyutai/mimi", {"model_type": "higgs_audio_v2_tokenizer"}, "--backend higgs"),
        ("kyutai/mimi", {"model_type": "llama"}, "found 'llama'"),
        ("kyutai/mimi", {"audio_channels": 2}, "'audio_channels' to be 1"),
        ("kyutai/mimi", {"num_quantizers": "many"}, "positive integer 'num_quantizers'"),
        ("kyutai/mimi", {"codebook_size": 65536}, "codebook size of 2..32768"),
        ("facebook/encodec_24khz", {"audio_channels": 2}, "clips are mono"),
        ("facebook/encodec_24khz", {"normalize": True}, "no place for scales"),
        ("facebook/encodec_24khz", {"chunk_length_s": 1.0}, "no place for chunks"),
        ("facebook/encodec_24khz", {"target_bandwidths": [0.1]}, "at least one codebook"),
        ("descript/dac_44khz", {"downsampling_ratios": [2, 0]}, "positive integers 'downsampling_ratios'"),
        ("hf-audio/xcodec-hubert-librispeech", {"strides": [2, 1]}, "product is the hop of 320"),
        ("hf-audio/xcodec-hubert-librispeech", {"semantic_model_config": {"model_type": "bert"}}, "'hubert' or 'wavlm'"),
    ],
)
def test_codecs_whose_tokens_are_more_than_codes_are_refused(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    """What would need more than [codebooks, frames], or is another network, is refused before any weight is read."""
    with pytest.raises(ModelFilesError, match=message):
        opened(tmp_path, PUBLISHED[name] | change)


def test_weights_that_are_missing_or_cut(tmp_path: Path) -> None:
    """A directory without weights, or with a cut file, says which file and what was expected."""
    folder = directory(tmp_path / "model", PUBLISHED["kyutai/mimi"])
    (folder / "model.safetensors").write_bytes(b"\0" * 4)
    with pytest.raises(ModelFilesError, match=r"model\.safetensors: expected a safetensors file"):
        open_checkpoint(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFilesError, match=r"model\.safetensors: missing"):
        open_checkpoint(str(folder))
    with pytest.raises(ModelFilesError, match="expected a directory"):
        open_checkpoint(str(tmp_path / "nowhere"))
