"""A voice data set in one solid 7z -> tars -> tokens -> one file, with the commands that people type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile_archives import Entry, tar_of, zip_of
from support.made_trees import lay_out
from support.runs import call
from support.solid_7z import PLACEHOLDER, RATE, SPEECH, originals, write_solid_7z
from support.tars import noise, pyav_file

from hpc.submit import submit
from jobs.spec import read_spec
from tools.merge import merge
from tools.pack import pack
from tools.reader import read_run

PAIRS = 500


@pytest.mark.slow
def test_five_hundred_pairs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every pair of the archive is in the merged file once, with its id, its text, its length and tokens of its own audio;
    what is no pair is listed.
    """
    pairs = originals(PAIRS, RATE // 5)
    write_solid_7z(here / "voices.7z", pairs, here / "files")
    shutil.rmtree(here / "files")
    assert call(pack, "voices.7z", "--max-size", "5MB", "--exclude", PLACEHOLDER) == 0
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


SEGMENTS = [{"sid": "s1", "begin_time": 0.1, "end_time": 0.5, "text_tn": "ONE <COMMA>", "text": "一"}]
RECORDING = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "wav/r.wav"}], "duration": 100.0}
SUPERVISION = {"id": "s1", "recording_id": "r", "start": 0.1, "duration": 0.4, "text": "one"}
CUT = {"id": "c", "start": 0, "duration": 9, "supervisions": [{"id": "s", "start": 0, "duration": 9, "text": "of a cut"}]}
TREES: dict[str, dict[str, str]] = {
    "common_voice": {
        "cv/en/clips/common_voice_en_1.mp3": "",
        "cv/en/validated.tsv": "client_id\tpath\tsentence\tlocale\nx\tcommon_voice_en_1.mp3\tof common voice\ten\n",
    },
    "audiofolder": {"train/a.flac": "", "train/metadata.csv": "file_name,transcription\na.flac,of an audiofolder\n"},
    "audiofolder_lines": {"a.flac": "", "metadata.jsonl": '{"file_name": "a.flac", "text": "of lines"}\n'},
    "ljspeech": {"LJSpeech-1.1/wavs/LJ1.wav": "", "LJSpeech-1.1/metadata.csv": "LJ1|1|of ljspeech\n"},
    "vctk": {"wav48_silence_trimmed/p1/p1_001_mic1.flac": "", "txt/p1/p1_001.txt": "of vctk\n"},
    "libritts": {
        "dev/84/1/84_1_0.wav": "",
        "dev/84/1/84_1_0.normalized.txt": "of libritts",
        "dev/84/1/84_1_0.original.txt": "1",
    },
    "aishell": {"wav/train/S0002/BAC1.wav": "", "transcript/aishell_transcript_v0.8.txt": "BAC1 of aishell\n"},
    "aishell3": {"train/wav/SSB0005/SSB1.wav": "", "train/content.txt": "SSB1.wav\t广 guang3 州 zhou1\n"},
    "mls": {"mls_german/dev/audio/1/2/1_2_3.flac": "", "mls_german/dev/transcripts.txt": "1_2_3\tof mls\n"},
    "gigaspeech": {
        "audio/podcast/P0000/POD1.opus": "",
        "GigaSpeech.json": json.dumps(
            {"language": "EN", "audios": [{"path": "audio/podcast/P0000/POD1.opus", "segments": SEGMENTS}]}
        ),
    },
    "wenetspeech": {
        "audio/train/Y1.opus": "",
        "WenetSpeech.json": json.dumps({"audios": [{"path": "audio/train/Y1.opus", "segments": SEGMENTS}]}),
    },
    "lhotse": {"wav/r.wav": "", "recordings.jsonl": json.dumps(RECORDING), "supervisions.jsonl": json.dumps(SUPERVISION)},
    "subtitles": {"talk/r.mp3": "", "talk/r.en.srt": "7\n00:00:00,100 --> 00:00:00,500\nof subtitles\n"},
    "kaldi": {"wav.scp": "r r.wav\n", "segments": "u r 0.1 0.5\n", "text": "u of kaldi\n", "r.wav": ""},
}
TEXTS: dict[str, list[str | None]] = {
    "common_voice": ["of common voice"],
    "audiofolder": ["of an audiofolder"],
    "audiofolder_lines": ["of lines"],
    "ljspeech": ["of ljspeech"],
    "vctk": ["of vctk"],
    "libritts": ["of libritts"],
    "aishell": ["of aishell"],
    "aishell3": ["广州"],
    "mls": ["of mls"],
    "shar": ["of a cut"],
    "webdataset": ["of webdataset"],
    "samples": ["of samples"],
}
"""Those that are not here have segments, with a text each."""


def speech(name: str) -> bytes:
    """A recording in the format that a name says."""
    extension = name.rpartition(".")[2]
    if extension == "opus":
        return pyav_file(noise(48000), 48000, "ogg", "libopus")
    return next(path for path in sorted(SPEECH.iterdir()) if path.suffix == f".{extension}").read_bytes()


def made(here: Path) -> dict[str, Path]:
    """SOURCE by layout: trees as folders, every other one in a zip, and what is no tree."""
    sources: dict[str, Path] = {}
    for number, (layout, names) in enumerate(TREES.items()):
        files = {name: content or speech(name) for name, content in names.items()}
        sources[layout] = lay_out(here / "made" / layout, files)
        if number % 2 == 0 and layout != "kaldi":
            entries = [Entry(name, path.read_bytes()) for name in files if (path := sources[layout] / name)]
            sources[layout] = here / f"{layout}.zip"
            sources[layout].write_bytes(zip_of(entries))
    sources["shar"] = lay_out(
        here / "shar",
        {
            "cuts.000000.jsonl": json.dumps(CUT),
            "recording.000000.tar": tar_of([Entry("c.flac", speech("c.flac")), Entry("c.json", b"{}")], "w"),
        },
    )
    columns: dict[str, dict[str, Any]] = {
        "webdataset": {"flac": [speech("x.flac")], "json": ['{"text": "of webdataset"}'], "__key__": ["k"]},
        "samples": {"audio": [{"array": noise(8000).tolist(), "sampling_rate": 8000}], "text": ["of samples"]},
    }
    for layout, rows in columns.items():
        sources[layout] = here / f"{layout}.parquet"
        pq.write_table(pa.table(rows), sources[layout])
    return sources


@pytest.mark.slow
def test_layouts_of_corpora(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each from a small made copy: packed, tokenized, and its texts, or its segments, are in the records."""
    sources = made(here)
    tars: list[str] = []
    for layout, source in sources.items():
        assert call(pack, source, "--output-dir", f"tars/{layout}") == 0, capsys.readouterr().err
        words = capsys.readouterr().out
        assert ("1 segment: `python -m hpc.submit --segments` makes each of them a clip" in words) == (layout not in TEXTS)
        assert "Left out" not in words
        tars += (here / "tars" / layout / "tars.txt").read_text().splitlines()
    (here / "tars.txt").write_text("".join(f"{tar}\n" for tar in tars))
    assert call(submit, "--list", "tars.txt", "--backend", "mulaw", "--cluster", "local", "--keep-dirs") == 0
    found: dict[str, list[Any]] = {}
    for clip in read_run("tokens"):
        found.setdefault(Path(clip.tar_file).parent.name, []).append(clip)
        assert clip.num_samples > 0
    assert {layout: [clip.text for clip in clips] for layout, clips in found.items() if layout in TEXTS} == TEXTS
    segmented = {layout: clips[0].metadata["segments"] for layout, clips in found.items() if layout not in TEXTS}
    assert segmented.keys() == {"gigaspeech", "wenetspeech", "lhotse", "subtitles", "kaldi"}
    for (segment,) in segmented.values():
        assert (segment["start"], segment["end"], bool(segment["text"]), bool(segment["id"])) == (0.1, 0.5, True, True)


@pytest.mark.slow
def test_packed_subtitles_are_cut_as_those_beside_audio(here: Path) -> None:
    """A run with --segments makes the same clips of what tools.pack has made and of a tar of the folder as it is."""
    cues = (
        "1\n00:00:00,500 --> 00:00:00,900\nsecond\n\n00:00:00,100 --> 00:00:00,500\n<i>first</i>\n\n9\n00:00:01 --> x\nno\n"
    )
    files = {"talk/r.mp3": speech("r.mp3"), "talk/r.srt": cues.encode(), "talk/r.json": b'{"speaker": "A", "text": "all"}'}
    lay_out(here / "folder", files)
    (here / "plain.tar").write_bytes(tar_of([Entry(name, data) for name, data in files.items()], "w"))
    assert call(pack, "folder") == 0
    (here / "list.txt").write_text(f"plain.tar\n{(here / 'tars' / 'tars.txt').read_text()}")
    assert call(submit, "--list", "list.txt", "--backend", "mulaw", "--cluster", "local", "--segments") == 0
    lines = [
        json.loads(line) for path in sorted((here / "tokens").glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    packed, plain = (
        [line for line in lines if (line["tar_file"] == str(here / "plain.tar")) == is_plain] for is_plain in (0, 1)
    )
    assert [line["audio_file"] for line in plain] == ["talk/r.mp3#1", "talk/r.mp3#1", "talk/r.mp3#9"]
    for one, other in zip(packed, plain, strict=True):
        said = [
            {key: value for key, value in line.pop("metadata", {}).items() if key not in ("id", "source")}
            for line in (one, other)
        ]
        assert said[0] == said[1]
        assert {**one, "tar_file": ""} == {**other, "tar_file": ""}
    assert [line.get("error_kind") for line in plain] == [None, None, "segment"]
