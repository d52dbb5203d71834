"""tools/exporting/hf.py: load_dataset opens the folder by itself, with the types and values of the run."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
from support.exported import by_tar, same, tokenized_run
from support.small_run import mulaw_spec

from jobs.spec import adopting
from tools.common.run_files import spec_of
from tools.exporting.hf import dataset_card
from tools.exporting.run_export import export_run


@pytest.mark.parametrize("several_keys", [False, True])
@pytest.mark.slow
def test_round_trip(several_keys: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split `train` over all files, the types as declared, every clip once and in order."""
    import datasets  # before the settings below, which it would keep for the tests that follow in this process

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    run = tokenized_run(tmp_path, several_keys=several_keys)
    export_run(run, tmp_path / "out", "hf", part_bytes=1)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 3
    data = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    clips = [clip for clips in by_tar(run).values() for clip in clips]
    assert len(data) == len(clips) == 12
    for row, clip in zip(data, clips, strict=True):
        assert same(row, clip)
        assert (row["audio_file"], row["text"], row["language"]) == (clip.audio_file, clip.text, None)
        assert (row["damage_seconds"], row["damage"], row["notes"]) == (0.0, None, [])
    short, text = datasets.Value("int16"), datasets.Value("string")
    assert data.features["metadata"] == text
    assert data.features["notes"] == datasets.List(text)
    if several_keys:
        assert data.features["tokens"] == datasets.List(short)
        assert data.features["envelope"] == datasets.List(datasets.List(datasets.Value("float16"), length=2))
    else:
        assert data.features["tokens"] == datasets.List(datasets.List(short))


def test_card_describes_the_columns(tmp_path: Path) -> None:
    """README.md names each column with its type and range, and leaves the licence to whoever publishes it."""
    card = dataset_card(spec_of(tokenized_run(tmp_path, several_keys=True)), clips=1234, files=2)
    assert "1,234 clips in 2 Parquet files" in card
    assert "| `levels` | list of int16 | 100 to 355 |" in card
    assert "| `envelope` | list of lists of float16 | [rows][2] features |" in card
    assert "| `damage_seconds` | float64 | audio of the clip that could not be decoded; 0: it is whole |" in card
    assert "damage" not in dataset_card(mulaw_spec(max_damage=0.0), clips=1, files=1)
    assert "notes" not in card
    assert "| `notes` | list of string |" in dataset_card(mulaw_spec(), clips=1, files=1, notes=True)
    assert "another tool made their tokens" in dataset_card(adopting(mulaw_spec(), "higgs"), clips=1, files=1)
    assert "another tool" not in card
    assert "The licence is that of the audio" in card
    assert "license:" not in card.split("---")[1]
