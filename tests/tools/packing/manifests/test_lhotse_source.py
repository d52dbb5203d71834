"""tools/packing/manifests/lhotse_source.py: manifests whose audio lies elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.lhotse_manifests import LEFT_OUT, manifests
from support.made_trees import audio_of, lay_out, left_out_of, pairs_of
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from tools.packing.pairs import SourceOptions
from tools.packing.sources import open_source


@pytest.mark.parametrize(
    "given", ["manifests", "manifests/ami_recordings_train.jsonl.gz", "manifests/ami_supervisions_train.jsonl.gz"]
)
@pytest.mark.parametrize("absolute", [True, False])
def test_manifests_apart_from_the_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, *, absolute: bool
) -> None:
    """A folder of nothing but manifests, or one of them with what belongs to it: the audio lies where its path says."""
    lay_out(tmp_path, audio_of("elsewhere/wav/long.wav", "elsewhere/wav/short.flac"))
    lay_out(tmp_path, manifests(f"{tmp_path / 'elsewhere'}/" if absolute else "elsewhere/"))
    monkeypatch.chdir(tmp_path)
    options = SourceOptions(scratch=tmp_path)
    pairs, left_out = pairs_of(open_source(str(tmp_path / given), options))
    assert [(name, pair.text, len((pair.metadata or {}).get("segments", []))) for name, pair in pairs.items()] == [
        ("long", None, 2),
        ("short", "all of it", 0),
    ]
    assert pairs["long"].audio == b"audio of elsewhere/wav/long.wav"
    table = "line 5 of ami_supervisions_train.jsonl.gz"
    expected = [*LEFT_OUT[:-1], ("unreadable_text", table), ("audio_without_text", "silent")]
    assert left_out_of(left_out) == sorted(expected)


def test_manifests_in_another_encoding(tmp_path: Path) -> None:
    """Told from all lines of all manifests together: those of one with two short ones, too."""
    ids = [str(number) for number in range(len(SENTENCES["ja"]))]
    recordings = [
        {"id": name, "sources": [{"type": "file", "channels": [0], "source": f"../{name}.wav"}], "duration": 5.0}
        for name in ids
    ]
    said = [
        {"id": name, "recording_id": name, "start": 0, "duration": 5.0, "channel": 0, "text": text}
        for name, text in zip(ids, ["はい", *SENTENCES["ja"][1:]], strict=True)
    ]

    def table(rows: list[dict[str, Any]]) -> bytes:
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("cp932")

    manifests = {
        "m/recordings.jsonl": table(recordings),
        "m/supervisions_a.jsonl": table(said[:1]),
        "m/supervisions_b.jsonl": table(said[1:]),
    }
    lay_out(tmp_path, {**audio_of(*(f"{name}.wav" for name in ids)), **manifests})
    pairs, left_out = pairs_of(open_source(str(tmp_path / "m"), SourceOptions(scratch=tmp_path)))
    assert ([pair.text for pair in pairs.values()], left_out) == ([one["text"] for one in said], [])


def test_manifests_that_are_links(tmp_path: Path) -> None:
    """A manifest that a link brings from elsewhere is refused, unless --follow-links takes it."""
    lay_out(tmp_path, {"outside.jsonl.gz": manifests()["manifests/ami_recordings_train.jsonl.gz"], "set/x": ""})
    (tmp_path / "set" / "recordings.jsonl.gz").symlink_to(tmp_path / "outside.jsonl.gz")
    with pytest.raises(UsageError, match=r"refused: links lead out.*recordings\.jsonl\.gz ->"):
        open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path))
    source = open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path, follow_links=True))
    assert source.items_total == 0
