from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.tiny_bicodec import build_spark_tts

from audio_tokenizers.bicodec.files import open_bicodec
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.file_hashes import files_sha256

ROOT, BICODEC, WAV2VEC2 = "config.yaml", "BiCodec/config.yaml", "wav2vec2-large-xlsr-53/config.json"
PREPROCESSOR = "wav2vec2-large-xlsr-53/preprocessor_config.json"
WEIGHTS = ("BiCodec/model.safetensors", "wav2vec2-large-xlsr-53/pytorch_model.bin")
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 625518756\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spark_tts(tmp_path_factory.mktemp("spark"))


@pytest.fixture
def checkpoint(built: Path, tmp_path: Path) -> Path:
    """A copy to break; its weights are links until a test replaces them."""
    return shutil.copytree(built, tmp_path / "model", copy_function=link_weights)


def link_weights(source: str, target: str) -> None:
    if Path(source).stat().st_size > 1 << 16:
        Path(target).symlink_to(source)
    else:
        shutil.copy(source, target)


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def refusal(directory: Path | str) -> str:
    with pytest.raises(ModelFilesError) as caught:
        open_bicodec(str(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(path: Path, dotted: str, value: object) -> None:
    """Set a key, or remove it if `value` is ABSENT."""
    config = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    *parents, leaf = dotted.split(".")
    part = config
    for parent in parents:
        part = part[parent]
    part[leaf] = value
    if value == "ABSENT":
        del part[leaf]
    path.write_text(json.dumps(config) if path.suffix == ".json" else yaml.safe_dump(config))


def test_what_is_read_from_a_directory(built: Path) -> None:
    """The four configs lead to the published facts, and both weights files are named."""
    found = open_bicodec(str(built))
    assert (found.sample_rate, found.hop_length, found.reference_samples, found.min_samples) == (16000, 320, 96000, 400)
    assert (found.global_codebook_size, found.speaker.tokens, found.codebook_dim) == (4096, 32, 8)
    assert (found.mel.bands, found.mel.fmin, found.mel.fmax, found.encoder.blocks) == (128, 10, None, 2)
    assert found.volume_normalize is True
    assert [str(path.relative_to(built)) for path in found.weights] == list(WEIGHTS)
    digest = hashlib.sha256(b"".join((built / name).read_bytes() for name in WEIGHTS)).hexdigest()
    assert files_sha256(found.weights) == digest


def test_wav2vec2_may_be_safetensors(checkpoint: Path) -> None:
    """Where both are there transformers prefers that file, and so does upstream, which asks transformers."""
    folder = checkpoint / "wav2vec2-large-xlsr-53"
    shutil.copy(checkpoint / WEIGHTS[0], folder / "model.safetensors")
    assert open_bicodec(str(checkpoint)).wav2vec2_weights == folder / "model.safetensors"
    (folder / "pytorch_model.bin").unlink()
    assert open_bicodec(str(checkpoint)).wav2vec2_weights == folder / "model.safetensors"


@pytest.mark.parametrize("name", [ROOT, BICODEC, WAV2VEC2, PREPROCESSOR, *WEIGHTS])
def test_an_absent_file_is_named_with_what_is_there(checkpoint: Path, name: str) -> None:
    """The usual slip is the parent directory or a half copy: the message shows what was found."""
    (checkpoint / name).unlink()
    message = refusal(checkpoint)
    assert f"{checkpoint / name}: missing" in message
    assert "Spark-TTS-0.5B" in message


@pytest.mark.parametrize("name", [ROOT, BICODEC])
@pytest.mark.parametrize(("content", "expected"), [("a: [", "YAML"), ("- 1\n", "list"), ("\udcff", "YAML"), ("", "0 bytes")])
def test_a_config_that_is_no_mapping_is_refused(checkpoint: Path, name: str, content: str, expected: str) -> None:
    """A cut or foreign config is one message that names the file."""
    (checkpoint / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    message = refusal(checkpoint)
    assert expected in message
    assert str(checkpoint / name) in message


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        (ROOT, "sample_rate", 24000, "'sample_rate' to be 16000"),
        (ROOT, "latent_hop_length", 640, "'latent_hop_length' to be 320"),
        (ROOT, "ref_segment_duration", "ABSENT", "'ref_segment_duration'"),
        (ROOT, "ref_segment_duration", "6", "'ref_segment_duration'"),
        (ROOT, "volume_normalize", "ABSENT", "'volume_normalize'"),
        (ROOT, "base_config", "other.yaml", "stands alone"),
        (BICODEC, "audio_tokenizer", "ABSENT", "'audio_tokenizer'"),
        (BICODEC, "audio_tokenizer.mel_params", "ABSENT", "'mel_params' in audio_tokenizer"),
        (BICODEC, "audio_tokenizer.mel_params.num_mels", 80, "'num_mels' to be 128"),
        (BICODEC, "audio_tokenizer.mel_params.sample_rate", 24000, "'sample_rate' to be 16000"),
        (BICODEC, "audio_tokenizer.encoder.sample_ratios", [2, 2], "'sample_ratios' of 1"),
        (BICODEC, "audio_tokenizer.encoder.input_channels", 1024, "'input_channels' to be 32"),
        (BICODEC, "audio_tokenizer.encoder.vocos_dim", True, "'vocos_dim'"),
        (BICODEC, "audio_tokenizer.quantizer.input_dim", 41, "'input_dim' to be 40"),
        (BICODEC, "audio_tokenizer.quantizer.codebook_size", 65536, "int16"),
        (BICODEC, "audio_tokenizer.speaker_encoder.fsq_levels", [4, 0], "'fsq_levels'"),
        (BICODEC, "audio_tokenizer.speaker_encoder.fsq_levels", [8, 8, 8, 8, 8, 8], "int16"),
        (BICODEC, "audio_tokenizer.speaker_encoder.fsq_num_quantizers", 2, "'fsq_num_quantizers' to be 1"),
        (WAV2VEC2, "model_type", "hubert", "'hubert'"),
        (WAV2VEC2, "do_stable_layer_norm", False, "'do_stable_layer_norm'"),
        (WAV2VEC2, "feat_extract_norm", "group", "'feat_extract_norm'"),
        (WAV2VEC2, "num_hidden_layers", 16, "'num_hidden_layers' above 16"),
        (WAV2VEC2, "conv_stride", [5, 2, 2, 2, 2, 2, 4], "'latent_hop_length' to be 640"),
        (PREPROCESSOR, "do_normalize", False, "'do_normalize'"),
        (PREPROCESSOR, "sampling_rate", 8000, "'sampling_rate'"),
    ],
)
def test_a_foreign_config_is_refused_with_what_was_expected(
    checkpoint: Path, name: str, key: str, value: int | str | list[int] | bool, expected: str
) -> None:
    """Another codec's directory, or another variant of this one, must not load by luck."""
    edit(checkpoint / name, key, value)
    message = refusal(checkpoint)
    assert expected in message


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: LFS_POINTER, "git lfs pull"),
        (lambda data: data[: len(data) // 2], "download it again"),
        (lambda data: data[:-1], "download it again"),
        (lambda data: b"<!doctype html>" * 100, "<!doct"),
    ],
)
def test_weights_that_are_cut_or_none_are_found_before_anything_is_submitted(
    checkpoint: Path, name: str, damage: Callable[[bytes], bytes], expected: str
) -> None:
    """A broken download costs a message on the login node, not a thousand failed tasks."""
    replace(checkpoint / name, damage((checkpoint / name).read_bytes()))
    message = refusal(checkpoint)
    assert str(checkpoint / name) in message
    assert expected in message


def test_a_hub_id_is_taken_from_the_local_cache(built: Path, tmp_path: Path) -> None:
    """Compute nodes are offline: what is in the cache is enough, and the language model need not be."""
    commit = "1" * 40
    repository = tmp_path / "hub" / "models--some--Spark-TTS-0.5B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(built, repository / "snapshots" / commit, copy_function=link_weights)
    # In its own process: the hub library reads its settings when it is imported.
    script = "from audio_tokenizers.bicodec.files import open_bicodec as o; print(o('some/Spark-TTS-0.5B').hop_length)"
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    assert (done.stdout, done.returncode) == ("320\n", 0), done.stderr
