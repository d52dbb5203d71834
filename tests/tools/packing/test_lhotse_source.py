"""tools/packing/lhotse_source.py: manifests whose audio lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lhotse_manifests import LEFT_OUT, manifests
from support.made_trees import audio_of, lay_out, left_out_of, pairs_of

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


def test_manifests_that_are_links(tmp_path: Path) -> None:
    """A manifest that a link brings from elsewhere is refused, unless --follow-links takes it."""
    lay_out(tmp_path, {"outside.jsonl.gz": manifests()["manifests/ami_recordings_train.jsonl.gz"], "set/x": ""})
    (tmp_path / "set" / "recordings.jsonl.gz").symlink_to(tmp_path / "outside.jsonl.gz")
    with pytest.raises(UsageError, match=r"refused: links lead out.*recordings\.jsonl\.gz ->"):
        open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path))
    source = open_source(str(tmp_path / "set"), SourceOptions(scratch=tmp_path, follow_links=True))
    assert source.items_total == 0
