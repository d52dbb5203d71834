from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_higgs import RATIOS, build_original_layout, build_transformers_layout

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.higgs.files import acoustic_frames, open_checkpoint, shortest_clip, weights_sha256

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 805000000\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("built")
    return {"original": build_original_layout(base / "o"), "transformers": build_transformers_layout(base / "t")}


@pytest.fixture(params=["original", "transformers"])
def checkpoint(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(built[request.param], tmp_path / "model")


def weights_of(directory: Path) -> Path:
    return next(path for path in directory.iterdir() if path.suffix in {".pth", ".safetensors"})


def edit(path: Path, **changes: object) -> None:
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "ABSENT"}))


def refusal(directory: Path | str) -> str:
    with pytest.raises(ModelFilesError) as caught:
        open_checkpoint(str(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_frame_count_rules_are_those_of_the_published_strides() -> None:
    """Which clips are shifted, and the shortest clip, follow from whole numbers alone."""
    equal = [n for n in range(960 * 5, 960 * 6) if acoustic_frames(n, RATIOS) == (n + 841) // 960]
    assert [n % 960 for n in equal] == [*range(119), *range(632, 960)]
    assert [acoustic_frames(n, RATIOS) for n in (631, 632, 960)] == [0, 1, 1]


def test_what_is_read_from_a_directory(built: dict[str, Path]) -> None:
    """Both layouts lead to the same facts; only the file names differ."""
    for layout, directory in built.items():
        found = open_checkpoint(str(directory))
        assert (found.layout, found.weights) == (layout, (weights_of(directory),))
        assert (found.strides, found.hop_length, found.semantic_stride, found.shift_padding) == (tuple(RATIOS), 960, 2, 320)
        assert shortest_clip(found) == 632


@pytest.mark.parametrize("strides", [RATIOS, [480], [30, 32], [2, 2, 2, 2, 2, 3, 5], [5, 4, 4, 3, 2]])
def test_the_shortest_clip_is_the_first_with_a_frame(built: dict[str, Path], tmp_path: Path, strides: list[int]) -> None:
    """Counted back from one frame for any strides, it is what counting forward finds."""
    directory = shutil.copytree(built["original"], tmp_path / "model")
    edit(directory / "config.json", ratios=strides)
    shortest = shortest_clip(open_checkpoint(str(directory)))
    assert [acoustic_frames(n, strides) for n in (shortest - 1, shortest)] == [0, 1]


def test_the_digest_is_of_the_bytes_and_follows_a_change(checkpoint: Path) -> None:
    """A run must notice weights that were replaced under the same name, within one process too."""
    import hashlib

    path = weights_of(checkpoint)
    found = open_checkpoint(str(checkpoint))
    assert weights_sha256(found) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"x")
    assert weights_sha256(found) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_absent_config_is_named_with_what_is_there(checkpoint: Path) -> None:
    """The usual slip is the parent directory or a half copy: the message shows what was found."""
    (checkpoint / "config.json").unlink()
    message = refusal(checkpoint)
    assert str(checkpoint / "config.json") in message
    assert weights_of(checkpoint).name in message


@pytest.mark.parametrize(("content", "expected"), [("{", "JSON"), ("[1]", "list"), ("\udcff", "JSON")])
def test_a_config_that_is_no_json_object_is_refused(checkpoint: Path, content: str, expected: str) -> None:
    """A cut or foreign config.json is one message."""
    (checkpoint / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert expected in refusal(checkpoint)


@pytest.mark.parametrize(
    ("layout", "changes", "expected"),
    [
        ("original", {"ratios": "ABSENT"}, "'ratios'"),
        ("original", {"ratios": [8, 0]}, "'ratios'"),
        ("original", {"ratios": [8, 5, 4]}, "whole number of HuBERT frames"),
        ("original", {"n_q": "8"}, "'n_q'"),
        ("original", {"bins": [8, 8]}, "'bins'"),
        ("original", {"bins": 65536}, "int16"),
        ("original", {"codebook_dim": None}, "'codebook_dim'"),
        ("original", {"sample_rate": "ABSENT"}, "'sample_rate'"),
        ("original", {"semantic_techer": "wavlm_base_plus"}, "'wavlm_base_plus'"),
        ("original", {"downsample_mode": "avg"}, "'downsample_mode'"),
        ("original", {"vq_scale": 2}, "'vq_scale'"),
        ("original", {"hidden_size": 768}, "hidden_size"),
        ("transformers", {"model_type": "xcodec"}, "'xcodec'"),
        ("transformers", {"acoustic_model_config": "ABSENT"}, "'acoustic_model_config'"),
        ("transformers", {"semantic_model_config": {"model_type": "wavlm"}}, "'wavlm'"),
        ("transformers", {"acoustic_model_config": {"model_type": "dac"}}, "'downsampling_ratios'"),
        ("transformers", {"target_bandwidths": []}, "'target_bandwidths'"),
        ("transformers", {"target_bandwidths": [0.1]}, "bandwidth"),
        ("transformers", {"codebook_size": "ABSENT"}, "'codebook_size'"),
    ],
)
def test_a_foreign_config_is_refused_with_what_was_expected(
    built: dict[str, Path], tmp_path: Path, layout: str, changes: dict[str, Any], expected: str
) -> None:
    """Another codec's directory, or another variant of this one, must not load by luck."""
    directory = shutil.copytree(built[layout], tmp_path / "model")
    edit(directory / "config.json", **changes)
    message = refusal(directory)
    assert expected in message
    assert str(directory / "config.json") in message


def test_absent_weights_are_named_with_the_layout_that_wants_them(checkpoint: Path) -> None:
    """The config decides which weights are looked for; the message says so."""
    path = weights_of(checkpoint)
    path.rename(checkpoint / "pytorch_model.bin")
    message = refusal(checkpoint)
    assert str(path) in message
    assert "pytorch_model.bin" in message


def test_a_git_lfs_pointer_is_recognised(checkpoint: Path) -> None:
    """A clone without git-lfs leaves a text file of three lines under the name of the weights."""
    weights_of(checkpoint).write_bytes(LFS_POINTER)
    assert "git lfs pull" in refusal(checkpoint)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_cut_weights_are_found_before_anything_is_submitted(checkpoint: Path, keep: float) -> None:
    """A broken download costs a message on the login node, not a thousand failed tasks."""
    path = weights_of(checkpoint)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert str(path) in refusal(checkpoint)


def test_weights_of_another_kind_are_refused(checkpoint: Path) -> None:
    """An HTML error page saved as weights is a common download."""
    weights_of(checkpoint).write_bytes(b"<!doctype html>" * 100)
    assert "<!doct" in refusal(checkpoint)


def test_an_index_of_shards_must_have_them_all(built: dict[str, Path], tmp_path: Path) -> None:
    """One shard lacking is named; a damaged index is too."""
    directory = shutil.copytree(built["transformers"], tmp_path / "model")
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    index = directory / "model.safetensors.index.json"
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": names}))
    assert "model-00002-of-00002.safetensors: missing" in refusal(directory)
    index.write_text(json.dumps({"weight_map": []}))
    assert "weight_map" in refusal(directory)


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere-at-all", "a/b/c", "model"])
def test_what_looks_like_a_path_is_never_asked_of_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake in a path must not become a request over the network."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refusal(path)


def test_a_file_is_no_directory(built: dict[str, Path]) -> None:
    """Passing model.pth itself is a natural mistake."""
    assert "directory" in refusal(built["original"] / "model.pth")


def describe_from_hub(hf_home: Path, repo_id: str) -> subprocess.CompletedProcess[str]:
    """In its own process: the hub library reads its settings when it is imported."""
    script = "import sys; from audio_tokenizers.higgs.files import open_checkpoint as o; print(o(sys.argv[1]).layout)"
    settings = {"HF_HOME": str(hf_home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script, repo_id]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)


def test_a_hub_id_is_taken_from_the_local_cache(built: dict[str, Path], tmp_path: Path) -> None:
    """Compute nodes are offline: what is in the cache is enough, in either layout."""
    commit = "1" * 40
    for layout, directory in built.items():
        repository = tmp_path / "hub" / f"models--some--{layout}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        shutil.copytree(directory, repository / "snapshots" / commit)
        done = describe_from_hub(tmp_path, f"some/{layout}")
        assert (done.stdout, done.returncode) == (f"{layout}\n", 0), done.stderr


def test_a_hub_id_that_cannot_be_had_says_what_to_do(built: dict[str, Path], tmp_path: Path) -> None:
    """Offline with an empty cache, or with the config alone: which download, and how to name a directory."""
    commit = "1" * 40
    repository = tmp_path / "hub" / "models--some--partial"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    shutil.copy(built["original"] / "config.json", repository / "snapshots" / commit)
    for repo_id in ("some/partial", "some/absent"):
        done = describe_from_hub(tmp_path, repo_id)
        assert done.returncode == 1
        message = done.stderr.splitlines()[-1]
        assert "ModelFilesError" in message
        assert f"hf download {repo_id}" in message
        assert "or give a directory with config.json and model.pth (or model.safetensors) as --model-path" in message
