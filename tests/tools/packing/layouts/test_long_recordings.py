"""tools/packing/layouts/long_recordings.py: recordings with segments, from JSON of any size."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.made_trees import audio_of, left_out_of, read_everywhere, read_or_refuse

from audio_tokenizers.errors import UsageError
from tools.packing.layouts import long_recordings
from tools.packing.layouts.long_recordings import recordings, segment
from tools.packing.layouts.tables import OtherKindError


def gigaspeech() -> dict[str, Any]:
    """Two recordings in the form of GigaSpeech.json, and one that was not downloaded."""
    common = {"speaker": "N/A", "subsets": ["{XL}"]}
    segments = [
        {"sid": "POD0_S0", **common, "begin_time": 159.0, "end_time": 167.52, "text_tn": "AS <COMMA> IT"},
        {"sid": "POD0_S1", **common, "begin_time": 170, "end_time": 171.5, "text_tn": "<MUSIC>"},
        {"sid": "POD0_S2", "begin_time": 9.0, "end_time": 8.0, "text_tn": "BACKWARDS"},
    ]
    audio = {"title": "T", "url": "99.mp3", "path": "audio/podcast/P0000/POD0.opus", "aid": "POD0", "duration": 2e3}
    short = {"sid": "Y", "begin_time": 0, "end_time": 1, "text_tn": "Y"}
    other = {"path": "audio/youtube/P0000/YOU0.opus", "aid": "YOU0", "segments": [short]}
    return {
        "dataset": "GigaSpeech",
        "language": "EN",
        "version": "v1.0.0",
        "audios": [{**audio, "segments": segments}, other, {**other, "path": "audio/gone.opus"}, {"aid": "pathless"}],
    }


def test_gigaspeech(tmp_path: Path) -> None:
    """The recording stays whole; its segments have ids, times, texts with their tags, and what else is said of them."""
    files = {
        **audio_of(*(f"GigaSpeech/audio/{name}.opus" for name in ("podcast/P0000/POD0", "youtube/P0000/YOU0", "x"))),
        "GigaSpeech/GigaSpeech.json": json.dumps(gigaspeech()),
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    pair = pairs["GigaSpeech/audio/podcast/P0000/POD0"]
    assert (pair.text, pair.language) == (None, "en")
    assert pair.metadata == {
        "title": "T",
        "url": "99.mp3",
        "aid": "POD0",
        "duration": 2e3,
        "segments": [
            {"id": "POD0_S0", "start": 159.0, "end": 167.52, "text": "AS <COMMA> IT", "speaker": "N/A", "subsets": ["{XL}"]},
            {"id": "POD0_S1", "start": 170, "end": 171.5, "text": "<MUSIC>", "speaker": "N/A", "subsets": ["{XL}"]},
        ],
    }
    assert len(pairs) == 2
    assert left_out_of(left_out) == [
        ("audio_without_text", "GigaSpeech/audio/x.opus"),
        ("text_without_audio", "GigaSpeech/audio/gone"),
        ("unreadable_text", "recording 1 of GigaSpeech/GigaSpeech.json, segment 2"),
        ("unreadable_text", "recording 4 of GigaSpeech/GigaSpeech.json"),
    ]


@pytest.mark.parametrize("end", [{}, {"end": None}, {"end": -1}, {"end_time": -1.0}, {"end": float("nan")}])
def test_an_end_that_is_missing_is_that_of_the_recording(end: dict[str, Any]) -> None:
    """The segment says no end then, which the tokenizer reads so; any other end before the begin is still none."""
    assert segment({"start": 2, **end, "text": "x"}) == {"start": 2, "text": "x"}
    for bad in ({"start": 2, "end": -2}, {"start": 2, "end": float("inf")}, {"start": float("inf")}, {"end": -1}):
        assert isinstance(segment(bad), str)


def test_wenetspeech(tmp_path: Path) -> None:
    """The same with other names of keys."""
    table = {
        "audios": [
            {
                "aid": "Y0",
                "duration": 1000.0,
                "md5": "x",
                "path": "audio/train/youtube/B00000/Y0.opus",
                "segments": [
                    {"sid": "Y0_S0", "confidence": 1.0, "begin_time": 0.28, "end_time": 2.33, "text": "怎么样"},
                ],
            }
        ]
    }
    files = {**audio_of("audio/train/youtube/B00000/Y0.opus"), "WenetSpeech.json": json.dumps(table, ensure_ascii=False)}
    pairs, left_out = read_everywhere(tmp_path, files)
    (pair,) = pairs.values()
    assert pair.metadata == {
        "aid": "Y0",
        "duration": 1000.0,
        "md5": "x",
        "segments": [{"id": "Y0_S0", "start": 0.28, "end": 2.33, "text": "怎么样", "confidence": 1.0}],
    }
    assert left_out == []


def test_json_is_read_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the window's size, also where it ends in the middle of a number, an escape or a character."""
    table = {**gigaspeech(), "length": 12345, "names": ["é\u20ac\U0001f600", '"\\'], "none": None}
    table["audios"] = [*table.pop("audios"), 12.5, "text", [], {}]
    for data in (json.dumps(table), json.dumps(table, ensure_ascii=False, indent=1)):
        for size in (1, 2, 3, 7, 64, 1 << 20):
            monkeypatch.setattr(long_recordings, "WINDOW", size)
            found = list(recordings("x.json", io.BytesIO(data.encode("utf-8-sig"))))
            assert [audio for _, audio in found] == table["audios"]
            assert found[0][0] == {key: value for key, value in table.items() if key != "audios"}


def test_no_more_than_a_window_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of any size is read piece by piece, and given out as it is read."""
    monkeypatch.setattr(long_recordings, "WINDOW", 4096)
    data = b'{"audios": [' + b",".join(b'{"path": "%06d"}' % number for number in range(100_000)) + b"]}"
    file = io.BytesIO(data)
    for number, _ in enumerate(recordings("x.json", file)):
        assert file.tell() < 19 * number + 3 * 4096


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"audios": [{"path": "a"}, {"path"', "near character 27 found"),
        (b'{"audios": [{"path": "a"}', "it is cut there"),
        (b'{"audios": [1 2]}', "near character 15 found"),
        (b'{"audios": {}}', "expected JSON, and near"),
        (b'{"version": 1}', "expected the recordings under `audios`, found these keys: version"),
        (b'{"version"', "it is cut there"),
        (b'{"audios": ["\xff"]}', "in UTF-8"),
        (b'{"audios": [' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_damaged_json(data: bytes, words: str) -> None:
    """One message, with the file and the place: what comes after it would be missing without a word."""
    with pytest.raises(UsageError, match=words) as refusal:
        list(recordings("set/GigaSpeech.json", io.BytesIO(data)))
    assert str(refusal.value).startswith("set/GigaSpeech.json: ")


def test_a_file_of_another_kind() -> None:
    """What does not even begin as an object only has the name."""
    for data in (b"[]", b"", b"hello"):
        with pytest.raises(OtherKindError, match="expected a JSON object with `audios`"):
            list(recordings("GigaSpeech.json", io.BytesIO(data)))


@pytest.mark.slow
def test_a_recording_with_more_than_a_sidecar_holds(tmp_path: Path) -> None:
    """It is left out and named: the tokenizer would not read its segments."""
    long = {"sid": "x", "begin_time": 0, "end_time": 1, "text": "x" * (17 << 20)}
    table = {"audios": [{"path": "a.opus", "segments": [long]}]}
    pairs, left_out = read_everywhere(tmp_path, {**audio_of("a.opus"), "WenetSpeech.json": json.dumps(table)})
    assert pairs == {}
    assert [(left.reason, left.name) for left in left_out] == [("unreadable_text", "a.opus")]
    assert "more than" in left_out[0].detail


NOT_SECONDS: list[tuple[object, object]] = [
    (0, "1"),
    (True, 2),
    (-1, 2),
    (1, 1),
    (float("nan"), 1),
    (0, float("inf")),
    (None, 1),
]


@pytest.mark.parametrize("raw", [None, [], {"sid": 1}, *({"begin_time": one, "end_time": two} for one, two in NOT_SECONDS)])
def test_what_is_no_segment(raw: object) -> None:
    """A part without a begin and a later end in seconds is said to be none."""
    assert isinstance(segment(raw), str)


@pytest.mark.slow
def test_any_bytes_give_recordings_or_one_message(tmp_path: Path) -> None:
    """A table with some of its bytes changed, cut or doubled never gives a traceback."""
    chance = random.Random(13)
    whole = json.dumps(gigaspeech()).encode()
    for number in range(60):
        data = bytearray(whole[: chance.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(chance.randrange(6)):
            at = chance.randrange(len(data) + 1)
            bytes_there = (chance.choice(b'{}[],:"\\eE0-\xff\x00 ') for _ in range(chance.randrange(3)))
            data[at : at + chance.randrange(3)] = bytes(bytes_there)
        folder = tmp_path / str(number)
        folder.mkdir()
        files = {**audio_of("audio/podcast/P0000/POD0.opus", "b.wav"), "b.txt": b"b", "GigaSpeech.json": bytes(data)}
        pairs, message = read_or_refuse(folder, files)
        assert ("GigaSpeech.json" in message and "\n" not in message) if message else pairs["b"].text == "b"
