"""A voice data set in one solid 7z -> tars -> tokens -> one file, with the commands that people type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.runs import call
from support.solid_7z import PLACEHOLDER, RATE, originals, write_solid_7z

from hpc.submit import submit
from jobs.spec import read_spec
from tools.merge import merge
from tools.pack import pack
from tools.reader import read_run

PAIRS = 2000


def test_two_thousand_pairs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every pair of the archive is in the merged file once, with its id, its text, its length and tokens of its own audio;
    what is no pair is listed.
    """
    pairs = originals(PAIRS, RATE // 5)
    write_solid_7z(here / "voices.7z", pairs, here / "files")
    shutil.rmtree(here / "files")
    assert call(pack, "voices.7z", "--max-size", "20MB", "--exclude", PLACEHOLDER) == 0
    out = capsys.readouterr().out
    assert f"{PAIRS:,} clips" in out
    left_out = [json.loads(line) for line in (here / "tars" / "left_out.jsonl").read_text().splitlines()]
    assert sorted((item["reason"], item["name"]) for item in left_out) == [
        ("audio_without_text", "alone.wav"),
        ("excluded", f"{PLACEHOLDER}/vo_x.lab"),
        ("excluded", f"{PLACEHOLDER}/vo_x.wav"),
        ("text_without_audio", "alone too.lab"),
    ]
    assert call(submit, "--list", "tars/tars.txt", "--backend", "mulaw", "--cluster", "local") == 0
    assert call(merge, "--output", "all.jsonl.gz") == 0
    found = {clip.metadata["id"]: clip for clip in read_run("all.jsonl.gz") if clip.metadata is not None}
    assert len(list(read_run("all.jsonl.gz"))) == PAIRS
    assert found.keys() == {pair.id for pair in pairs}
    spec = read_spec(here / "tokens")
    assert spec is not None
    for pair in pairs:
        clip = found[pair.id]
        assert clip.metadata is not None
        assert clip.text == pair.text
        assert clip.audio_file == f"{pair.id}.wav"
        assert clip.metadata["source"] == {"audio": f"{pair.id}.wav", "text": f"{pair.id}.lab", "sample_rate": RATE}
        assert abs(clip.num_samples - pair.frames * spec.sample_rate / RATE) <= 1
    tokens = {clip.tokens.tobytes() for clip in found.values()}
    assert len(tokens) == PAIRS
    assert np.mean([len(set(clip.tokens[0].tolist())) for clip in found.values()]) > 50
