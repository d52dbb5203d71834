from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.tiny_whisper import LAYERS, MEL_BINS, WIDTH, build_whisper

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.whisper_features.files import open_checkpoint


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("whisper")
    return {size: build_whisper(base / size, shard_size=size) for size in ("1GB", "100KB")}


@pytest.fixture(params=["1GB", "100KB"])
def model(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to break, in one file or in shards."""
    return Path(shutil.copytree(built[request.param], tmp_path / "model"))


def refusal(directory: Path) -> str:
    with pytest.raises(ModelFilesError) as caught:
        open_checkpoint(str(directory))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_read_from_a_directory(built: dict[str, Path]) -> None:
    """Sizes come from the config, the window from its positions; shards are taken in the order of their names."""
    for size, directory in built.items():
        found = open_checkpoint(str(directory))
        assert (found.width, found.layers, found.mel_bins) == (WIDTH, LAYERS, MEL_BINS)
        assert (found.positions, found.window) == (1500, 480000)
        assert [path.parent for path in found.weights] == [directory] * len(found.weights)
        assert (len(found.weights) > 1) == (size == "100KB")
        assert sorted(found.weights) == list(found.weights)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "wav2vec2"}, "'wav2vec2'"),
        ({"d_model": None}, "'d_model'"),
        ({"encoder_layers": "32"}, "'encoder_layers'"),
        ({"num_mel_bins": 0}, "'num_mel_bins'"),
        ({"max_source_positions": True}, "'max_source_positions'"),
    ],
)
def test_a_foreign_config_is_refused(model: Path, changes: dict[str, Any], expected: str) -> None:
    """Another model's directory says so before anything is loaded."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    message = refusal(model)
    assert expected in message
    assert str(path) in message


def test_a_missing_file_is_named_with_what_is_there(model: Path) -> None:
    """The usual slip is the parent directory or a half copy: a shard or the config that lacks is named."""
    last = max(model.glob("*.safetensors"))
    last.unlink()
    assert str(last) in refusal(model)
    (model / "config.json").unlink()
    message = refusal(model)
    assert str(model / "config.json") in message
    assert "generation_config.json" in message


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_cut_weights_are_refused(model: Path, size: int) -> None:
    """A download that broke off is found when the run is planned."""
    last = max(model.glob("*.safetensors"))
    last.write_bytes(last.read_bytes()[:size])
    assert str(last) in refusal(model)


def test_an_index_that_is_none_is_refused(built: dict[str, Path], tmp_path: Path) -> None:
    """An index without its map names no file."""
    model = Path(shutil.copytree(built["100KB"], tmp_path / "model"))
    (model / "model.safetensors.index.json").write_text("{}")
    assert "weight_map" in refusal(model)


def test_a_hub_id_asks_for_these_files_alone(built: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's large-v3 has the same weights in several formats; one of them is enough."""
    import huggingface_hub

    asked: list[tuple[bool, list[str]]] = []

    def snapshot(repo: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((local_files_only, allow_patterns))
        return str(built["1GB"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert open_checkpoint("openai/whisper-large-v3").directory == built["1GB"]
    weights = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
    assert asked == [(True, ["config.json"]), (True, ["config.json", *weights])]
