"""tools/exporting/npz.py: what np.load reads without pickle is what the run holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.committed_runs import damaged_records, make_run, record
from support.exported import by_tar, code_records, same, tokenized_run
from support.runs import tree

from audio_tokenizers.base import Field
from tools.common.run_files import committed_files, spec_of
from tools.exporting.npz import write_npz

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)


def written(run: Path, folder: Path) -> int:
    return sum(write_npz(file, folder / file.name, spec_of(run), lambda _: None) for file in committed_files(run))


@pytest.mark.parametrize("several_keys", [False, True])
def test_round_trip(several_keys: bool, tmp_path: Path) -> None:
    """A file per clip, named as the clip, with its arrays in the smallest type and the rest without dimensions."""
    run = tokenized_run(tmp_path, several_keys=several_keys)
    size = written(run, tmp_path / "out")
    files = tree(tmp_path / "out")
    assert size == sum(map(len, files.values()))
    assert len(files) == 12
    for name, clips in by_tar(run).items():
        for clip in clips:
            found = np.load(tmp_path / "out" / name / clip.audio_file.replace(".wav", ".npz"))
            assert same(found, clip)
            assert found["tokens"].dtype == np.int16
            rest = {key: found[key].item() for key in ("tar_file", "audio_file", "num_samples", "sample_rate", "text")}
            assert rest == {key: getattr(clip, key) for key in rest}
            assert "language" not in found


def test_any_names(tmp_path: Path) -> None:
    """Clips in folders, of equal names, and of names that lead out of the folder, each get a file inside it."""
    names = ["d/x.wav", "d/x.flac", "../../x.wav", "/x.wav", "x.npz/y.wav"]
    make_run(tmp_path / "run", {"a": code_records(names)}, CODES)
    written(tmp_path / "run", tmp_path / "out")
    found = tree(tmp_path / "out")
    assert sorted(found) == ["a/d/x-2.npz", "a/d/x.npz", "a/x-2.npz", "a/x.npz", "a/x_npz/y.npz"]
    metadata = np.load(tmp_path / "out" / "a/d/x-2.npz")["metadata"].item()
    assert msgspec.json.decode(metadata) == {"n": 1, "é": [1.5, None]}


def test_bytes_depend_on_the_run_alone(tmp_path: Path) -> None:
    """The same run gives the same files again: no time of writing stands in them."""
    run = tokenized_run(tmp_path, several_keys=True)
    written(run, tmp_path / "1")
    written(run, tmp_path / "2")
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert all(b"\x00\x00\x21\x00" in data for data in tree(tmp_path / "1").values())  # 1980-01-01, 0:00


def test_damage(tmp_path: Path) -> None:
    """What a clip lacks stands in its file; a whole one has nothing of it."""
    make_run(tmp_path / "run", {"a": damaged_records(1)}, CODES)
    written(tmp_path / "run", tmp_path / "out")
    found = np.load(tmp_path / "out" / "a" / "d0.npz")
    assert (found["damage_seconds"].item(), found["damage"].item()) == (0.72, "frames that cannot be decoded")
    assert not {"damage_seconds", "damage"} & set(np.load(tmp_path / "out" / "a" / "0.npz"))


def test_notes(tmp_path: Path) -> None:
    """What the record notes stands in the clip's file; one without notes has nothing of it."""
    records = [record(audio_file="a.wav", notes=("opposite_phase",)), record(audio_file="b.wav")]
    make_run(tmp_path / "run", {"a": records}, CODES)
    written(tmp_path / "run", tmp_path / "out")
    assert np.load(tmp_path / "out" / "a" / "a.npz")["notes"].tolist() == ["opposite_phase"]
    assert "notes" not in np.load(tmp_path / "out" / "a" / "b.npz")
