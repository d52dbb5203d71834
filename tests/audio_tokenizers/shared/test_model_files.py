"""shared/model_files.py: a file that is missing, cut or foreign is found before anything is submitted.

What is special to a layout is tested with its backend; tests/audio_tokenizers/higgs/test_files.py has the hub's cache.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.model_files import check_whole, find_model, read_json, read_yaml, require_files


def nothing(_: Path) -> list[str]:
    return []


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    """Never looked up on the hub; whoever reads it says what is wrong with it."""
    assert find_model(str(tmp_path), nothing, nothing, layout="a codec") == tmp_path


@pytest.mark.parametrize("path", ["/none/such", "./none", "~/none", "no id", "a/b/c"])
def test_what_is_neither_directory_nor_id(path: str) -> None:
    """One message, and no network."""
    with pytest.raises(ModelFilesError, match=r"expected a codec, found nothing|no Hugging Face id"):
        find_model(path, nothing, nothing, layout="a codec")


def test_files_are_required_by_name(tmp_path: Path) -> None:
    """The first that is missing is named, with the layout that wants it and what is there instead."""
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert require_files(tmp_path, ["a.onnx"], "a codec") == [tmp_path / "a.onnx"]
    with pytest.raises(ModelFilesError, match=r"b.onnx: missing: expected a codec; found a.onnx"):
        require_files(tmp_path, ["a.onnx", "b.onnx"], "a codec")
    with pytest.raises(ModelFilesError, match="found nothing"):
        require_files(tmp_path, ["folder/b.onnx"], "a codec")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_that_is_no_object(text: str, tmp_path: Path) -> None:
    """Cut or foreign JSON is named with its file."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFilesError, match=r"config.json: expected"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "found"), [(b"a: [", "line 1"), (b"\xff", "invalid start byte"), (b"- 1", "list"), (b"", "NoneType")]
)
def test_a_config_that_is_no_mapping(text: bytes, found: str, tmp_path: Path) -> None:
    """Cut or foreign YAML is named with its file, and where it is wrong."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    with pytest.raises(ModelFilesError, match=r"config\.yaml: expected") as caught:
        read_yaml(path)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"a: 1")
    assert read_yaml(path) == {"a": 1}


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    """Whoever asks for one that is gone hears so, whichever its format."""
    for read in (read_json, read_yaml):
        with pytest.raises(ModelFilesError, match="No such file"):
            read(tmp_path / "config")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_every_cut_of_a_weights_file_is_found(name: str, tmp_path: Path) -> None:
    """From its first and last bytes: a download that broke off must not wait for a GPU to be found."""
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"a": torch.ones(4)}, path)
    else:
        safetensors.torch.save_file({"a": torch.ones(4)}, path)
    check_whole(path)
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFilesError, match=name):
            check_whole(path)


def test_pointers_and_empty_files_of_any_kind(tmp_path: Path) -> None:
    """A clone without git-lfs has pointers in place of weights, of whatever format."""
    for name in ("a.onnx", "b.npy", "c.pt", "d.safetensors"):
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        with pytest.raises(ModelFilesError, match="git-lfs pointer"):
            check_whole(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ModelFilesError, match=name):
            check_whole(tmp_path / name)
