"""jobs/clip_group.py: whose a sidecar is among members with one key. Whole tars: tests/jobs/test_tar_reader.py."""

from __future__ import annotations

import io

from jobs.clip_group import Clip, ClipGroup, stem_of
from jobs.sidecars import LARGEST_SIDECAR


def group(*suffixes: str, sidecars: dict[str, bytes] | None = None) -> ClipGroup:
    found = ClipGroup("a/1")
    found.clips = [(suffix, Clip(number, f"a/1.{suffix}", io.BytesIO())) for number, suffix in enumerate(suffixes)]
    found.sidecars = {suffix: (f"a/1.{suffix}", content) for suffix, content in (sidecars or {}).items()}
    found.sidecar_bytes = sum(map(len, (sidecars or {}).values()))
    return found


def test_a_stem_is_what_stands_before_the_extension() -> None:
    """Of `1.mic2.wav`, whose key is `1`, it is `mic2`."""
    assert (stem_of("mic2.wav"), stem_of("wav"), stem_of("a.b.wav")) == ("mic2", "", "a.b")


def test_a_sidecar_of_the_same_stem_comes_before_a_shared_one() -> None:
    """`1.mic2.wav` has `1.mic2.txt`; `1.mic3.wav` shares `1.txt`. What was used is remembered: the rest are orphans."""
    both = group("mic2.wav", "mic3.wav", sidecars={"mic2.txt": b"own", "txt": b"shared", "json": b"{}"})
    assert both.sidecars_of("mic2.wav", ("txt",)) == {"txt": ("a/1.mic2.txt", b"own")}
    assert both.sidecars_of("mic3.wav", ("txt",)) == {"txt": ("a/1.txt", b"shared")}
    assert both.used == {"mic2.txt", "txt"}


def test_a_sidecar_named_after_the_whole_file_comes_first() -> None:
    """`1.wav.txt` is `1.wav`'s, where the run looks for such names."""
    one = group("wav", sidecars={"wav.txt": b"whole", "txt": b"short"})
    assert one.sidecars_of("wav", ("txt",), whole_names=True)["txt"][1] == b"whole"
    assert one.sidecars_of("wav", ("txt",))["txt"][1] == b"short"


def test_subtitles_in_one_language_only() -> None:
    """`1.en.vtt` is beside `1.m4a`; with another language beside it neither is taken."""
    assert group("m4a", sidecars={"en.vtt": b"e"}).sidecars_of("m4a", ("vtt",)) == {"vtt": ("a/1.en.vtt", b"e")}
    assert group("m4a", sidecars={"en.vtt": b"e", "de.vtt": b"d"}).sidecars_of("m4a", ("vtt",)) == {}


def test_a_full_group_is_split_before_the_clip_that_needs_room() -> None:
    """The clips of the new stem go on with their own sidecars and the shared ones; the others are given out with theirs."""
    full = group("a.wav", "b.wav", sidecars={"a.txt": bytes(LARGEST_SIDECAR), "b.txt": b"own", "txt": b"shared"})
    assert full.is_full_for("b", 1)
    assert not full.is_full_for("a", 1)
    rest = full.split("b")
    assert [suffix for suffix, _ in full.clips] == ["a.wav"]
    assert [suffix for suffix, _ in rest.clips] == ["b.wav"]
    assert set(full.sidecars) == {"a.txt", "txt"}
    assert set(rest.sidecars) == {"b.txt", "txt"}
    assert rest.sidecar_bytes == len(b"own" + b"shared")


def test_clips_that_nobody_took_are_closed() -> None:
    """Their audio may be temporary files."""
    left = group("a.wav")
    left.close()
    audio = left.clips[0][1].audio
    assert audio is not None
    assert audio.closed
