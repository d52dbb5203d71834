"""tools/packing/layouts/lhotse.py: recordings, supervisions and cuts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.lhotse_manifests import LEFT_OUT, lines, manifests, recording, supervision
from support.made_trees import audio_of, left_out_of, read_everywhere, read_or_refuse

from audio_tokenizers.errors import UsageError
from tools.packing.layouts.lhotse import is_lhotse_table, with_partners


def test_a_tree_with_manifests(tmp_path: Path) -> None:
    """Paths are taken from where lhotse was run, which is the manifests' folder or one above; a supervision of the whole is
    the text, others are segments. Commands and addresses are named, and never run or fetched.
    """
    files = {**audio_of("wav/long.wav", "wav/short.flac", "wav/silent.wav", "wav/other.wav"), **manifests()}
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name: (pair.text, pair.language, pair.metadata) for name, pair in pairs.items()} == {
        "wav/long": (
            None,
            "English",
            {
                "recording_id": "long",
                "segments": [
                    {
                        "id": "l-1",
                        "start": 1.0,
                        "end": 3.0,
                        "text": "first",
                        "channel": 0,
                        "language": "English",
                        "speaker": "A",
                    },
                    {
                        "id": "l-2",
                        "start": 50.1,
                        "end": 52.3,
                        "text": "second",
                        "snr": 3,
                        "channel": 0,
                        "language": "English",
                        "speaker": "B",
                    },
                ],
            },
        ),
        "wav/short": ("all of it", None, {"channel": 0, "speaker": "A", "recording_id": "short", "supervision_id": "s"}),
    }
    assert left_out_of(left_out) == sorted(
        [*LEFT_OUT, ("audio_without_text", "wav/other.wav"), ("empty_text", "wav/silent.wav")]
    )
    details = {left.name: left.detail for left in left_out}
    assert "never run" in details["piped"]
    assert "fetch it" in details["far"]


def test_cuts(tmp_path: Path) -> None:
    """Each supervision of the cuts becomes a segment at its time in the recording, once; what is of no one file is named."""
    whole = recording("r", "wav/r.wav", 30.0)
    cut = {"id": "c1", "start": 10.0, "duration": 5.0, "channel": 0, "type": "MonoCut", "recording": whole}
    other = {**cut, "id": "c2", "start": 20.0, "supervisions": [supervision("s2", "r", 0.0, 5.0, "two")]}
    cuts = lines(
        {**cut, "supervisions": [supervision("s1", "r", 0.5, 1.0, "one")]},
        other,
        {"id": "m", "start": 0, "duration": 1, "type": "MixedCut", "tracks": []},
        {**cut, "id": "c3", "supervisions": [{"id": "timeless"}]},
        {**cut, "id": "c4", "supervisions": [supervision("s1", "r", 0.5, 1.0, "one"), supervision("s2", "r", 10, 5, "two")]},
        {**cut, "id": "c5", "recording": {**recording("slow", "wav/r.wav"), "transforms": [{"name": "Speed"}]}},
    )
    pairs, left_out = read_everywhere(tmp_path, {**audio_of("wav/r.wav"), "cuts_train.jsonl.gz": cuts})
    (pair,) = pairs.values()
    assert [(part["id"], part["start"], part["end"], part["text"]) for part in (pair.metadata or {})["segments"]] == [
        ("s1", 10.5, 11.5, "one"),
        ("s2", 20.0, 25.0, "two"),
    ]
    assert left_out_of(left_out) == [
        ("unreadable_audio", "slow"),
        ("unreadable_text", "c3"),
        ("unreadable_text", "m"),
    ]


def test_an_end_that_is_missing_is_that_of_the_recording(tmp_path: Path) -> None:
    """Of a supervision in a cut it is the cut's; from the begin on it is of the whole."""
    parts = [
        {**supervision("s2", "r", 5.0, 0, "two"), "duration": None},
        supervision("s1", "r", 1.0, -1, "one"),
        supervision("s0", "r", 1.0, 0, "none"),
        {**supervision("s3", "r", 1.0, 0, "none"), "duration": "2"},
    ]
    cut = {"id": "c", "start": 10.0, "duration": 5.0, "recording": recording("r", "wav/r.wav", 30.0)}
    more = {**supervision("c1", "r", 0.5, 0, "cut"), "duration": None}
    files = {
        **audio_of("wav/r.wav", "wav/w.wav"),
        "recordings.jsonl": "\n".join(json.dumps(recording(name, f"wav/{name}.wav", 30.0)) for name in "rw"),
        "supervisions.jsonl": "\n".join(map(json.dumps, [*parts, supervision("w1", "w", 0, -1, "whole")])),
        "cuts.jsonl": json.dumps({**cut, "supervisions": [more]}),
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    found = (pairs["wav/r"].metadata or {})["segments"]
    assert [(part["id"], part["start"], part.get("end")) for part in found] == [
        ("s1", 1.0, None),
        ("s2", 5.0, None),
        ("c1", 10.5, 15.0),
    ]
    faults = (pairs["wav/r"].metadata or {})["sidecar_errors"]
    assert [fault.rpartition("found ")[2] for fault in faults] == ["1.0 and 1.0", "1.0 and '2'"]
    assert (pairs["wav/w"].text, left_out) == ("whole", [])


def test_numbers_that_json_cannot_say(tmp_path: Path) -> None:
    """Null stands there, and the recording's metadata names them."""
    said = supervision("s", "r", 1.0, 2.0, "one", snr=float("nan"), custom={"q": [1.0, float("inf")]})
    files = {
        **audio_of("wav/r.wav"),
        "recordings.jsonl": json.dumps(recording("r", "wav/r.wav")),
        "supervisions.jsonl": json.dumps(said),
    }
    (pair,) = read_everywhere(tmp_path, files)[0].values()
    assert pair.metadata is not None
    (part,) = pair.metadata["segments"]
    assert (part["snr"], part["q"], "sidecar_errors" in part) == (None, [1.0, None], False)
    assert pair.metadata["sidecar_errors"] == [
        "a supervision of r: snr: NaN is no value of JSON: null",
        "a supervision of r: custom.q[1]: Infinity is no value of JSON: null",
    ]


def test_names_of_manifests() -> None:
    """As lhotse's recipes call them; partners differ in the kind alone."""
    yes = [
        "recordings.jsonl.gz",
        "supervisions.jsonl",
        "aishell_recordings_train.jsonl.gz",
        "cuts_dev.jsonl.gz",
        "x-cuts.JSONL",
    ]
    no = ["metadata.jsonl", "recordings.json", "myrecordings.jsonl", "haircuts.jsonl", "recordings.jsonl.zst"]
    assert [name for name in (*yes, *no) if is_lhotse_table(name)] == yes
    there = [
        "a_recordings_dev.jsonl.gz",
        "a_recordings_train.jsonl.gz",
        "a_supervisions_dev.jsonl.gz",
        "cuts_dev.jsonl.gz",
        "x.wav",
    ]
    assert with_partners("a_supervisions_dev.jsonl.gz", there) == (
        "a_recordings_dev.jsonl.gz",
        "a_supervisions_dev.jsonl.gz",
    )
    assert with_partners("cuts_dev.jsonl.gz", there) == ("cuts_dev.jsonl.gz",)


def test_a_first_line_that_cannot_be_read(tmp_path: Path) -> None:
    """It is one bad line, and what the manifest is shows by the next one."""
    files: dict[str, bytes | str] = {
        **audio_of("wav/r.wav"),
        "recordings.jsonl": b"\xff\xff\n" + json.dumps(recording("r", "wav/r.wav")).encode(),
        "supervisions.jsonl": '{"id": "cut\n' + json.dumps(supervision("s", "r", 0, 10, "all")),
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert pairs["wav/r"].text == "all"
    assert left_out_of(left_out) == [
        ("unreadable_text", "line 1 of recordings.jsonl"),
        ("unreadable_text", "line 1 of supervisions.jsonl"),
    ]


def test_a_manifest_that_was_cut(tmp_path: Path) -> None:
    """Half a gzip file is one error with its name."""
    files = {**audio_of("wav/short.flac"), **manifests()}
    name = "manifests/ami_supervisions_train.jsonl.gz"
    content = files[name]
    assert isinstance(content, bytes)
    with pytest.raises(UsageError, match=r"ami_supervisions_train\.jsonl\.gz: the gzip data is cut or damaged"):
        read_everywhere(tmp_path, {**files, name: content[:-12]})


@pytest.mark.slow
def test_any_lines_give_pairs_or_one_message(tmp_path: Path) -> None:
    """Values of any type in any place never give a traceback."""
    chance = random.Random(7)
    values: list[Any] = [None, 0, -1, 1e999, "r", [], {}, [{}], {"type": "file"}, True, "wav/r.wav", 10**400, "\ud800"]

    def damaged(record: dict[str, Any]) -> dict[str, Any]:
        return {key: chance.choice(values) if chance.random() < 0.25 else value for key, value in record.items()}

    for number in range(60):
        one, said = recording("r", "wav/r.wav"), supervision("s", "r", 0, 10, "t")
        cut = {"id": "c", "start": 0, "duration": 1, "recording": damaged(one), "supervisions": [damaged(said)]}
        files = {
            **audio_of("wav/r.wav", "b.wav"),
            "b.txt": "b",
            "recordings.jsonl.gz": lines(one, damaged(one), damaged(one)),
            "supervisions.jsonl.gz": lines(said, *(damaged(said) for _ in range(3))),
            "cuts.jsonl": json.dumps(damaged(cut)),
        }
        folder = tmp_path / str(number)
        folder.mkdir()
        pairs, message = read_or_refuse(folder, files)
        assert message == ""
        assert pairs["b"].text == "b"
