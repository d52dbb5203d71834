from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from audio_tokenizers.cosyvoice_s3.files import find_onnx
from audio_tokenizers.errors import ModelFilesError

BESIDE = ("campplus.onnx", "cosyvoice2.yaml", "flow.pt", "llm.pt", "speech_tokenizer_v2.batch.onnx")


def checkpoint(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in (*BESIDE, *names):
        (directory / name).touch()
    return directory


def test_the_file_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    """Among all else that the directory holds, a graph for training with nearly the same name included."""
    directory = checkpoint(tmp_path / "CosyVoice2-0.5B", "speech_tokenizer_v2.onnx")
    assert find_onnx(str(directory)) == directory / "speech_tokenizer_v2.onnx"


def test_a_file_may_be_given_itself(tmp_path: Path) -> None:
    """Whatever it is called, which read_variant judges."""
    path = checkpoint(tmp_path / "x") / "speech_tokenizer_v2.batch.onnx"
    assert find_onnx(str(path)) == path


def test_two_tokenizers_are_no_choice(tmp_path: Path) -> None:
    """Which one to take would be a guess that decides tokens."""
    directory = checkpoint(tmp_path / "both", "speech_tokenizer_v1.onnx", "speech_tokenizer_v2.onnx")
    with pytest.raises(ModelFilesError, match=r"found speech_tokenizer_v1\.onnx, speech_tokenizer_v2\.onnx: give"):
        find_onnx(str(directory))


def test_a_directory_without_one_says_what_it_holds(tmp_path: Path) -> None:
    """A checkpoint of another model, or an unfinished download."""
    with pytest.raises(ModelFilesError, match=r"with one speech_tokenizer_\*\.onnx.*found campplus\.onnx"):
        find_onnx(str(checkpoint(tmp_path / "none")))


@pytest.mark.parametrize("name", ["gone", "gone/speech_tokenizer_v1.onnx"])
def test_a_missing_path_is_named(tmp_path: Path, name: str) -> None:
    """And never taken for a hub id."""
    with pytest.raises(ModelFilesError, match=r"gone.*missing"):
        find_onnx(str(tmp_path / name))


def test_of_a_hub_repository_only_the_tokenizer_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 GB instead of 5; the local cache first."""
    directory = checkpoint(tmp_path / "snapshot", "speech_tokenizer_v2.onnx")
    asked = []

    def snapshot_download(repo_id: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((repo_id, tuple(allow_patterns), local_files_only))
        return str(directory)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    assert find_onnx("FunAudioLLM/CosyVoice2-0.5B") == directory / "speech_tokenizer_v2.onnx"
    assert set(asked) == {("FunAudioLLM/CosyVoice2-0.5B", ("speech_tokenizer_v[0-9].onnx",), True)}
