"""jobs/tar_reader.py: which members are clips, which sidecars are theirs, and what a damaged tar gives out."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sentences import SENTENCES
from support.tars import end_blocks, link_member, member, tar_bytes

from jobs import clip_group, sidecars, tar_reader
from jobs.clip_group import Clip
from jobs.parts import Cutting, FinishedMembers
from jobs.subset import Subset
from jobs.tar_format import TarDamage, TarStream
from jobs.tar_reader import TarReader
from jobs.text_rules import TextRules

Files = list[tuple[str, bytes]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.tar"


def take(reader: TarReader) -> Iterator[tuple[Clip, bytes | None]]:
    """Clips with their bytes, closed as the pipeline closes them."""
    for clip in reader:
        data = clip.audio.read() if clip.audio else None
        if clip.audio:
            clip.audio.close()
        yield clip, data


def clips(path: Path, files: Files | bytes, **settings: object) -> list[Clip]:
    path.write_bytes(files if isinstance(files, bytes) else tar_bytes(files, tarfile.GNU_FORMAT))
    with TarReader(path, **settings) as reader:  # type: ignore[arg-type]
        return [clip for clip, _ in take(reader)]


def texts(path: Path, files: Files) -> dict[str, str | None]:
    return {clip.name: clip.annotations.text for clip in clips(path, files)}


def test_clips_come_whole_and_in_order(path: Path) -> None:
    """Each audio member is a clip, with its bytes, name and place."""
    path.write_bytes(tar_bytes([("a/1.wav", b"one"), ("a/1.txt", b"t"), ("a/2.flac", b""), ("b/1.mp3", b"three" * 1000)]))
    with TarReader(path) as reader:
        found = [(clip.index, clip.name, data) for clip, data in take(reader)]
        assert reader.bytes_consumed == path.stat().st_size
    assert found == [(0, "a/1.wav", b"one"), (1, "a/2.flac", b""), (2, "b/1.mp3", b"three" * 1000)]


@pytest.mark.parametrize("apart", [False, True])
def test_clips_outside_of_the_runs_share(path: Path, *, apart: bool) -> None:
    """They are no clips: the others are numbered without them, and have their texts; their own are no orphans."""
    files = [(f"wav/{n}.wav", b"audio %d" % n) for n in range(9)]
    said = [(f"wav/{n}.txt", b"text %d" % n) for n in range(9)]
    ordered = [*files, *said] if apart else [file for pair in zip(files, said, strict=True) for file in pair]
    path.write_bytes(tar_bytes(ordered, tarfile.GNU_FORMAT))
    subset = Subset(0.4, "x")
    inside = [n for n in range(9) if subset.has(f"wav/{n}.wav")]
    assert 0 < len(inside) < 9
    with TarReader(path, subset=subset, texts=TextRules()) as reader:
        found = [(clip.index, clip.name, clip.annotations.text, data) for clip, data in take(reader)]
        assert (reader.outside_subset, reader.orphan_sidecars) == (9 - len(inside), 0)
    assert found == [(i, f"wav/{n}.wav", f"text {n}", b"audio %d" % n) for i, n in enumerate(inside)]


@pytest.mark.parametrize("order", [("1.txt", "1.wav"), ("1.wav", "1.txt")])
def test_sidecar_before_or_after(order: tuple[str, str], path: Path) -> None:
    """A sidecar may stand before or after its audio."""
    assert texts(path, [(name, b"words") for name in order]) == {"1.wav": "words"}


def test_all_sidecars_of_a_clip(path: Path) -> None:
    """json, txt and lab of one key are merged; a folder is part of the key."""
    found = clips(
        path, [("a/1.json", b'{"language": "en", "id": 7}'), ("a/1.wav", b""), ("a/1.txt", b"t"), ("b/1.lab", b"not mine")]
    )
    assert (found[0].annotations.text, found[0].annotations.language, found[0].annotations.metadata) == (
        "t",
        "en",
        {"id": 7},
    )


def test_key_ends_at_the_first_dot(path: Path) -> None:
    """As in WebDataset: `1.mic1.wav` and `1.mic2.wav` share `1.txt`, and folders with dots do not matter."""
    files = [("v1.0/1.mic1.wav", b""), ("v1.0/1.mic2.wav", b""), ("v1.0/1.txt", b"shared"), ("v1.0/2.wav", b"")]
    assert texts(path, files) == {"v1.0/1.mic1.wav": "shared", "v1.0/1.mic2.wav": "shared", "v1.0/2.wav": None}


def test_stems_with_dots_have_their_own_sidecars(path: Path) -> None:
    """`1.5_a.wav` has `1.5_a.txt` rather than another's, though both have the key `1`."""
    files = [
        ("1.5_a.wav", b""),
        ("1.5_a.txt", b"a"),
        ("1.5_b.wav", b""),
        ("1.5_b.txt", b"b"),
        ("1.json", b'{"language": "de"}'),
    ]
    assert texts(path, files) == {"1.5_a.wav": "a", "1.5_b.wav": "b"}
    assert [clip.annotations.language for clip in clips(path, files)] == ["de", "de"]


def test_two_formats_of_one_clip(path: Path) -> None:
    """`1.wav` and `1.flac` are two clips with the same transcript."""
    assert texts(path, [("1.flac", b""), ("1.txt", b"t"), ("1.wav", b"")]) == {"1.flac": "t", "1.wav": "t"}


def test_duplicate_names_are_separate_clips(path: Path) -> None:
    """A name that comes again begins a new group with its own sidecars, at once or later."""
    files = [("1.wav", b"x"), ("1.txt", b"first"), ("1.wav", b"y"), ("1.txt", b"second"), ("2.wav", b""), ("1.wav", b"z")]
    found = clips(path, files)
    assert [(c.index, c.name, c.annotations.text) for c in found] == [
        (0, "1.wav", "first"),
        (1, "1.wav", "second"),
        (2, "2.wav", None),
        (3, "1.wav", None),
    ]


def test_a_long_group_is_given_out_in_parts(path: Path) -> None:
    """Names like `spk.0001.wav` all have the key `spk`: they stream, with their own and shared sidecars, none lost."""
    files: Files = [("spk.json", b'{"language": "fr"}'), ("spk.txt", b"shared")]
    for n in range(300):
        files.append((f"spk.{n:04}.wav", b"%d" % n))
        if n % 2:
            files.append((f"spk.{n:04}.txt", b"own %d" % n))
    files.append(("spk.orphan.txt", b""))
    path.write_bytes(tar_bytes(files))
    with TarReader(path) as reader:
        stream = take(reader)
        first, _ = next(stream)
        assert reader.bytes_consumed < path.stat().st_size // 2
        found = [first, *(clip for clip, _ in stream)]
        assert reader.orphan_sidecars == 1
    assert [clip.name for clip in found] == [f"spk.{n:04}.wav" for n in range(300)]
    assert [clip.annotations.text for clip in found] == [f"own {n}" if n % 2 else "shared" for n in range(300)]
    assert {clip.annotations.language for clip in found} == {"fr"}


def test_what_is_no_clip_is_counted(path: Path) -> None:
    """AppleDouble files, directories, links, devices and other files are no clips; each kind is counted. Of those that may
    be data the suffixes are.
    """
    data = b"".join(
        [
            member(b"d/", kind=b"5"),
            member(b"d/._a.wav", b"\0\5\x16\7"),
            member(b"._b.json", b"{}"),
            member(b"d/a.wav", b"x"),
            member(b"d/soft.png", kind=b"2"),
            member(b"d/hard", kind=b"1"),
            member(b"d/pipe.wav", kind=b"6"),
            member(b"README", b"read me"),
            member(b"d/a.png", b"\x89PNG"),
            member(b"d/b.XYZ", b"what is it"),
            member(b"d/c.xyz", b"what is it"),
            member(b"d/c", b"fLaC" + bytes(40)),
            end_blocks(),
        ]
    )
    path.write_bytes(data)
    with TarReader(path) as reader:
        assert [clip.name for clip, _ in take(reader)] == ["d/a.wav"]
        assert reader.ignored == {"directory": 1, "appledouble": 2, "link": 2, "other": 6}
        assert reader.left_out == {"xyz": 2, "(none)": 1}
        assert (reader.orphan_sidecars, reader.sidecar_faults) == (0, 0)


def test_sniff(path: Path) -> None:
    """With it, what begins as audio is a clip under any name but a sidecar's, whole and with the sidecars of its key; what
    does not is none, and of links the data decides. The places of clips are the same when some are skipped.
    """
    flac = b"fLaC" + bytes(range(256)) * 50
    data = b"".join(
        [
            member(b"a", flac),
            member(b"a.txt", b"text of a"),
            member(b"b.42", flac),
            member(b"c.xyz", b"nothing" * 3000),
            member(b"c.txt", flac),
            member(b"d.wav", b"by its name"),
            link_member(b"e", b"a", b"1"),
            member(b"e.json", b'{"text": "text of e"}'),
            link_member(b"f", b"c.xyz", b"1"),
            link_member(b"g", b"nothing", b"1"),
            member(b"._h", flac),
            end_blocks(),
        ]
    )
    path.write_bytes(data)
    everything = [
        ("a", "text of a", flac),
        ("b.42", None, flac),
        ("d.wav", None, b"by its name"),
        ("e", "text of e", flac),
    ]
    for skipped in range(5):
        for packed in (data, gzip.compress(data)):
            path.write_bytes(packed)
            with TarReader(path, sniff=True, skip_clips=skipped) as reader:
                found = [(clip.name, clip.annotations.text, body) for clip, body in take(reader)]
                assert found == [(n, t, None if k < skipped else b) for k, (n, t, b) in enumerate(everything)]
                assert reader.left_out == {"xyz": 1}
    path.write_bytes(data)
    with TarReader(path) as reader:
        assert [clip.name for clip, _ in take(reader)] == ["d.wav"]
        assert reader.left_out == {"(none)": 2, "xyz": 1}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_links_are_clips(compress: Callable[[bytes], bytes], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link with an audio name, or to a member with one, is a clip in its place, with the data of what it leads to and its
    own sidecars, which may be links, too. One that leads nowhere is a clip without data that says why, or a sidecar that was
    not read.
    """
    data = b"".join(
        [
            link_member(b"early.wav", b"d/late.wav", b"2"),
            member(b"a.wav", b"A" * 3000),
            member(b"a.txt", b"words"),
            link_member(b"b.wav", b"a.wav", b"1"),
            link_member(b"b.txt", b"a.txt", b"1"),
            link_member(b"c.wav", b"b.wav", b"2"),
            member(b"c.txt", b"of its own"),
            link_member(b"lost.wav", b"../a.wav", b"2"),
            member(b"lost.txt", b"text"),
            member(b"d/late.wav", b"late"),
            link_member(b"d/late.txt", b"no.txt", b"2"),
            link_member(b"d/late.png", b"no.png", b"2"),
            link_member(b"latest", b"a.wav", b"2"),
            member(b"latest.txt", b"the latest"),
            link_member(b"oldest", b"gone.wav", b"1"),
            end_blocks(),
        ]
    )
    everything = [
        ("early.wav", None, b"late"),
        ("a.wav", "words", b"A" * 3000),
        ("b.wav", "words", b"A" * 3000),
        ("c.wav", "of its own", b"A" * 3000),
        ("lost.wav", "text", None),
        ("d/late.wav", None, b"late"),
        ("latest", "the latest", b"A" * 3000),
    ]
    path.write_bytes(compress(data))
    for limit in (10_000, 10):  # in memory, and through a file
        monkeypatch.setattr(tar_reader, "AUDIO_IN_MEMORY", limit)
        for skipped in range(8):
            with TarReader(path, skip_clips=skipped) as reader:
                found = [(clip.name, clip.annotations.text, body, str(clip.fault or "")) for clip, body in take(reader)]
                assert [one[:3] for one in found] == [
                    (name, text, None if index < skipped else body) for index, (name, text, body) in enumerate(everything)
                ]
                assert [bool(one[3]) for one in found] == [n == 4 and skipped <= 4 for n in range(7)]
                assert (reader.linked_clips, reader.ignored, reader.sidecar_faults) == (5, {"link": 2}, 1)
    assert found[4][3] == ""
    with TarReader(path) as reader:
        clips_ = [clip for clip, _ in take(reader)]
    assert str(clips_[4].fault) == "a symbolic link to ../a.wav: that is outside the tar, where no link is followed"
    assert clips_[5].annotations.metadata == {
        "sidecar_errors": ["d/late.txt: a symbolic link to no.txt: there is no such member in the tar"]
    }


def test_links_of_an_earlier_version(path: Path) -> None:
    """Who reads a tar for a file from when links were no clips finds its clips as they were."""
    path.write_bytes(member(b"a.wav", b"a") + link_member(b"b.wav", b"a.wav", b"1") + member(b"c.wav", b"c") + end_blocks())
    with TarReader(path, follow_links=False) as reader:
        assert [(clip.index, clip.name) for clip, _ in take(reader)] == [(0, "a.wav"), (1, "c.wav")]
        assert reader.ignored == {"link": 1}


def test_a_link_behind_which_the_tar_is_damaged(path: Path) -> None:
    """Nothing is recorded of a symbolic link that nobody can follow to its end: the damage is the verdict, as ever."""
    data = member(b"a.wav", b"a") + member(b"b.wav", b"b") + link_member(b"c.wav", b"a.wav", b"2") + member(b"d.wav", b"d")
    path.write_bytes(data)
    found: list[str] = []
    with pytest.raises(TarDamage) as caught, TarReader(path) as reader:
        found.extend(clip.name for clip, _ in take(reader))
    assert (caught.value.verdict, found) == ("no_end_marker", ["a.wav", "b.wav"])
    with TarReader(path, allow_missing_end=True) as reader:
        assert [body for _, body in take(reader)] == [b"a", b"b", b"a", b"d"]


def test_joined_tars(path: Path) -> None:
    """The switch reads what follows the end of a tar, links across included; without it the first tar's clips come out."""
    first = member(b"a.wav", b"a") + member(b"b.wav", b"b") + end_blocks()
    second = link_member(b"c.wav", b"a.wav", b"1") + member(b"c.txt", b"text") + end_blocks()
    for data in (first + second, gzip.compress(first) + gzip.compress(second)):
        path.write_bytes(data)
        found: list[str] = []
        with pytest.raises(TarDamage) as caught, TarReader(path) as reader:
            found.extend(clip.name for clip, _ in take(reader))
        assert (caught.value.verdict, found) == ("data_after_end", ["a.wav"])
        with TarReader(path, allow_joined=True) as reader:
            assert [(clip.name, clip.annotations.text, body) for clip, body in take(reader)] == [
                ("a.wav", None, b"a"),
                ("b.wav", None, b"b"),
                ("c.wav", "text", b"a"),
            ]


def test_a_text_of_another_joined_tar(path: Path) -> None:
    """Tars that number their clips alike share no texts, though texts in a tar of their own are found."""
    first = member(b"0.wav", b"a") + member(b"0.txt", b"first") + member(b"1.wav", b"b") + end_blocks()
    second = member(b"0.wav", b"c") + member(b"1.txt", b"alone") + end_blocks()
    third = member(b"1.wav", b"d") + member(b"x", b"") + end_blocks()
    path.write_bytes(first + second)
    with TarReader(path, allow_joined=True, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["first", "alone", None]
    path.write_bytes(member(b"0.wav", b"a") + end_blocks() + member(b"0.txt", b"apart") + end_blocks() + third)
    with TarReader(path, allow_joined=True, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["apart", None]


def test_extensions(path: Path) -> None:
    """Extensions count in any case; of those that were not asked for, no clip is made."""
    files = [("a.WAV", b""), ("a.TXT", b"t"), ("b.Mp3", b""), ("c.flac.part", b""), ("wav", b""), ("d.", b"")]
    assert texts(path, files) == {"a.WAV": "t", "b.Mp3": None}
    assert [clip.name for clip in clips(path, files, extensions=("mp3",))] == ["b.Mp3"]
    assert [clip.name for clip in clips(path, [("a.xyz", b"")], extensions=("xyz",))] == ["a.xyz"]


def test_names_that_are_not_utf8(path: Path) -> None:
    r"""Bytes that are not UTF-8 survive as \xNN, and sidecars still match."""
    found = clips(
        path, member(b"caf\xe9.wav", b"") + member(b"caf\xe9.txt", b"noir") + member("语.wav".encode()) + end_blocks()
    )
    assert [(clip.name, clip.annotations.text) for clip in found] == [("caf\\xe9.wav", "noir"), ("语.wav", None)]


def test_orphans_and_faults_are_counted(path: Path) -> None:
    """Sidecars that belong to no clip, and those that cannot be read, are counted."""
    files = [("0.txt", b""), ("1.wav", b""), ("1.json", b"broken"), ("1.other.txt", b""), ("2.json", b"{}"), ("2.txt", b"")]
    path.write_bytes(tar_bytes(files))
    with TarReader(path) as reader:
        (clip,) = (clip for clip, _ in take(reader))
        assert (reader.orphan_sidecars, reader.sidecar_faults) == (4, 1)
    assert clip.annotations.metadata is not None
    assert "1.json" in clip.annotations.metadata["sidecar_errors"][0]


def test_skip_clips(path: Path) -> None:
    """Clips that were done before come with their names and no bytes; counts are those of the whole tar."""
    path.write_bytes(tar_bytes([("a.wav", b"a"), ("a.json", b"bad"), ("b.wav", b"b"), ("c.wav", b"c")]))
    with TarReader(path, skip_clips=2) as reader:
        assert [(clip.name, data) for clip, data in take(reader)] == [("a.wav", None), ("b.wav", None), ("c.wav", b"c")]
        assert reader.sidecar_faults == 1


def test_large_members_go_through_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member over the limit is not held in memory, nor are many small ones of one group; the bytes are the same."""
    monkeypatch.setattr(tar_reader, "AUDIO_IN_MEMORY", 1000)
    monkeypatch.setattr(tar_reader, "COPY_BYTES", 300)
    files = [
        ("a.wav", b"0" * 1000),
        ("b.wav", b"1" * 1001),
        ("c.1.wav", b"2" * 600),
        ("c.2.wav", b"3" * 600),
        ("d.wav", b"4"),
    ]
    path.write_bytes(tar_bytes(files))
    with TarReader(path) as reader:
        kinds = []
        found = []
        for clip in reader:
            assert clip.audio is not None
            kinds.append(type(clip.audio).__name__)
            found.append((clip.name, clip.audio.read()))
            clip.audio.close()
    assert found == files
    assert [kind == "BytesIO" for kind in kinds] == [True, False, True, False, True]


def test_nothing_stays_open_when_reading_ends_early(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut inside a large member, damage after it, and a caller who stops, leave no temporary file open."""
    monkeypatch.setattr(tar_reader, "AUDIO_IN_MEMORY", 10)
    data = tar_bytes([("a.1.wav", b"1" * 2000), ("a.2.wav", b"2" * 2000), ("b.wav", b"3" * 2000)])
    for broken in (data[:4000], data[:5120], data[:-1024], data[:5120] + b"x" * 512):
        path.write_bytes(broken)
        with TarReader(path) as reader, pytest.raises(TarDamage):
            list(take(reader))
    path.write_bytes(data)
    with TarReader(path) as reader:
        for clip, _ in take(reader):
            assert clip.name == "a.1.wav"
            break


def test_sparse_members(path: Path) -> None:
    """A sparse clip or transcript comes whole, holes and all. One that cannot be given back says so: a clip by its fault,
    and no part of a transcript is taken for text.
    """
    good = b"30 GNU.sparse.map=600,3,700,0\n" + b"23 GNU.sparse.size=700\n"
    bad = b"23 GNU.sparse.size=700\n"
    data = b"".join(
        [
            *(member(b"x", good, b"x") + member(name, b"abc") for name in (b"a.wav", b"a.lab")),
            *(member(b"x", bad, b"x") + member(name, b"abc") for name in (b"b.wav", b"b.txt")),
            member(b"c.wav", b"good"),
            end_blocks(),
        ]
    )
    path.write_bytes(data)
    whole = bytes(600) + b"abc" + bytes(97)
    with TarReader(path) as reader:
        found = [(clip.name, str(clip.fault or ""), clip.annotations.text, body) for clip, body in take(reader)]
        assert reader.ignored == {"sparse_sidecar": 1}
    fault = "a sparse file that cannot be given back: it has no valid map: pack it again without --sparse"
    assert found == [
        ("a.wav", "", whole.decode(), whole),
        ("b.wav", fault, None, None),
        ("c.wav", "", None, b"good"),
    ]


def test_a_sidecar_over_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcript too large to be one is not read as a part of itself."""
    monkeypatch.setattr(tar_reader, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(clip_group, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(sidecars, "LARGEST_SIDECAR", 100)
    found = clips(path, [("a.wav", b""), ("a.txt", b"x" * 101), ("b.wav", b""), ("b.txt", b"y" * 100)])
    assert [clip.annotations.text for clip in found] == [None, "y" * 100]
    assert found[0].annotations.faults == 1


def test_sidecars_of_a_group_share_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they may take what one may: those beyond are named, not read; later groups have their own."""
    monkeypatch.setattr(tar_reader, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(clip_group, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(sidecars, "LARGEST_SIDECAR", 100)
    files = [
        ("a.txt", b"x" * 60),
        ("a.json", b"{}" + b" " * 39),
        ("a.lab", b"z" * 40),
        ("a.wav", b""),
        ("b.wav", b""),
        ("b.txt", b"y" * 100),
        ("b.json", b"{}"),
        ("c.wav", b""),
        ("c.txt", b"fits"),
    ]
    found = clips(path, files)
    assert [clip.annotations.text for clip in found] == ["x" * 60, "y" * 100, "fits"]
    assert [clip.annotations.faults for clip in found] == [1, 1, 0]
    assert found[1].annotations.metadata == {
        "sidecar_errors": ["b.json: with the other sidecars of its group larger than 100 bytes"]
    }


def test_group_of_many_clips_is_given_out_before_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of one key, each with a sidecar of its own beside it: no text is lost, however much they have together."""
    monkeypatch.setattr(tar_reader, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(clip_group, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(sidecars, "LARGEST_SIDECAR", 100)
    files: Files = [("k.lab", b"shared")]
    for n in range(10):
        files += [(f"k.{n}.wav", b""), (f"k.{n}.txt", bytes([65 + n]) * 45)]
    found = clips(path, files)
    assert [clip.annotations.text for clip in found] == [chr(65 + n) * 45 for n in range(10)]
    assert sum(clip.annotations.faults for clip in found) == 0


def test_sidecars_without_clips_do_not_pile_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group ends at a number of sidecars that no data set has: memory stays bounded, and none is lost count of."""
    monkeypatch.setattr(tar_reader, "SIDECARS_IN_GROUP", 20)
    path.write_bytes(tar_bytes([*((f"k.{n}.txt", b"t") for n in range(110)), ("k.109.wav", b""), ("k.1.wav", b"")]))
    with TarReader(path) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["t", None]
        assert reader.orphan_sidecars == 109


APART: Files = [
    ("1.json", b'{"text": "one"}'),
    ("2.txt", b"two"),
    ("1.wav", b"1" * 3000),
    ("2.wav", b"2" * 600),
    ("3.flac", b"3"),
    ("3.flac.json", b'{"text": "three"}'),
    ("Four.wav", b"4"),
    ("5.wav", b"5"),
    ("5.txt", b"five"),
    ("four.txt", b"four"),
    ("README.txt", b"nobody's"),
    ("5.json", b'{"language": "en"}'),
    ("6.wav", b"6"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_sidecars_that_stand_apart(pack: Callable[[bytes], bytes], path: Path) -> None:
    """From the first clip on that has none beside it, sidecars are found wherever they stand, before or after, under names
    that look equal too; what belongs to nobody is counted. Of a compressed tar, too. A run from before goes on without.
    """
    path.write_bytes(pack(tar_bytes(APART)))
    with TarReader(path, texts=TextRules()) as reader:
        found = {clip.name: (clip.annotations.text, clip.annotations.language) for clip, _ in take(reader)}
        assert (reader.orphan_sidecars, reader.sidecar_faults) == (1, 0)
    assert found == {
        "1.wav": ("one", None),
        "2.wav": ("two", None),
        "3.flac": ("three", None),
        "Four.wav": ("four", None),
        "5.wav": ("five", "en"),
        "6.wav": (None, None),
    }
    with TarReader(path) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == [None, None, None, None, "five", None]
        assert reader.orphan_sidecars == 6


def test_a_tar_whose_clips_have_their_sidecars_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to look for; nor where texts are UTF-8."""
    opened = []

    def watched(*arguments: Any, **settings: Any) -> TarStream:
        opened.append(1)
        return TarStream(*arguments, **settings)

    monkeypatch.setattr(tar_reader, "TarStream", watched)
    data = tar_bytes([("1.wav", b""), ("1.txt", "é".encode()), ("2.mic1.wav", b""), ("2.json", b"{}"), ("2.mic2.wav", b"")])
    path.write_bytes(data)
    with TarReader(path, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["é", None, None]
    assert len(opened) == 1


def test_names_that_do_not_tell_whose_a_sidecar_is(path: Path) -> None:
    """The clip's record says which would fit; none is taken."""
    path.write_bytes(tar_bytes([("CASE.txt", b"a"), ("case.txt", b"b"), ("Case.wav", b""), ("x.wav", b"")]))
    with TarReader(path, texts=TextRules()) as reader:
        (case, other) = (clip.annotations for clip, _ in take(reader))
        assert (reader.orphan_sidecars, reader.sidecar_faults) == (2, 1)
    assert (case.text, other.text) == (None, None)
    assert case.metadata == {"sidecar_errors": ["Case.wav: its .txt: CASE.txt and case.txt look alike"]}


def test_equal_members_of_one_name(path: Path) -> None:
    """A sidecar beside another audio file of its key goes to a clip that has none, unless there are several."""
    files = [("1.mic1.wav", b""), ("1.txt", b"shared"), ("2.wav", b""), ("1.mic2.wav", b"")]
    path.write_bytes(tar_bytes(files))
    with TarReader(path, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["shared", None, "shared"]
        assert reader.orphan_sidecars == 0
    path.write_bytes(
        tar_bytes([("1.wav", b""), ("1.txt", b"a"), ("1.wav", b""), ("1.txt", b"b"), ("2.wav", b""), ("1.wav", b"")])
    )
    with TarReader(path, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == ["a", "b", None, None]
        assert reader.sidecar_faults == 1


@pytest.mark.parametrize("skip", range(6))
def test_going_on_finds_the_same(skip: int, path: Path) -> None:
    """Clips that are done are passed over; the rest gets what it would have had, encodings told from all texts included."""
    sentences = SENTENCES["ja"]
    files = [(f"{n}.txt", sentence.encode("shift_jis")) for n, sentence in enumerate(sentences)]
    path.write_bytes(tar_bytes([*((f"{n}.wav", b"") for n in range(len(files))), *files]))
    with TarReader(path, skip_clips=skip, texts=TextRules()) as reader:
        assert [clip.annotations.text for clip, _ in take(reader)] == list(sentences)
        assert reader.text_encoding == "cp932"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_encoding_that_a_tar_shows(pack: Callable[[bytes], bytes], path: Path) -> None:
    """Korean was once read as Chinese. A person's word goes before."""
    sentences = SENTENCES["ko"]
    files = [
        (f"{n}.{kind}", b"" if kind == "wav" else sentence.encode("euc_kr"))
        for n, sentence in enumerate(sentences)
        for kind in ("wav", "lab")
    ]
    path.write_bytes(pack(tar_bytes(files)))
    for rules in (TextRules(), TextRules(encoding="cp949")):
        with TarReader(path, texts=rules) as reader:
            assert [clip.annotations.text for clip, _ in take(reader)] == list(sentences)
    assert [clip.annotations.text for clip in clips(path, pack(tar_bytes(files)))] != list(sentences)


def test_damage_behind_what_is_looked_for(path: Path) -> None:
    """A look that meets the damage first does not tell of it: the clips before it come out, and then it raises."""
    path.write_bytes(tar_bytes(APART)[:-2000])
    found: list[str | None] = []
    with pytest.raises(TarDamage), TarReader(path, texts=TextRules()) as reader:
        found.extend(clip.annotations.text for clip, _ in take(reader))
    assert found[:3] == ["one", "two", "three"]


FILES: Files = [("a.wav", b"A" * 600), ("a.txt", b"a"), ("b.wav", b"B" * 600), ("b.json", b"{}"), ("c.wav", b"C" * 600)]


def damaged() -> dict[str, tuple[bytes, str, list[str]]]:
    """Name -> (bytes, verdict, the clips that can be given out)."""
    data = tar_bytes(FILES)
    body = len(data) - 1024  # members: a.wav 0, a.txt 1536, b.wav 2560, b.json 4096, c.wav 5120
    zeroed = bytearray(data)
    zeroed[4096:4608] = bytes(512)
    flipped = bytearray(data)
    flipped[4096] ^= 1
    packed = gzip.compress(data)
    return {
        "empty": (b"", "empty_file", []),
        "text": (b"hello " * 200, "not_a_tar", []),
        "cut in data": (data[:3500], "cut", ["a.wav"]),
        "cut in a header": (data[:4300], "cut", ["a.wav"]),
        "cut between members": (data[:4096], "no_end_marker", ["a.wav"]),
        "header zeroed": (bytes(zeroed), "data_after_end", ["a.wav"]),
        "header flipped": (bytes(flipped), "bad_header", ["a.wav"]),
        "no end": (data[:body], "no_end_marker", ["a.wav", "b.wav"]),
        "zeros to the size of a copy under way": (data[:body] + bytes(3 << 20), "zero_tail", ["a.wav", "b.wav"]),
        "garbage after the end": (data + b"x" * 100, "data_after_end", ["a.wav", "b.wav"]),
        "gzip cut": (packed[:-4], "bad_compression", ["a.wav", "b.wav"]),
        "gzip crc": (packed[:-8] + bytes(8), "bad_compression", ["a.wav", "b.wav"]),
    }


@pytest.mark.parametrize("how", damaged())
def test_damage_gives_out_whole_groups_only(how: str, path: Path) -> None:
    """At damage of any kind, clips whose group is known to be whole come out, the last group does not, and it raises."""
    data, verdict, names = damaged()[how]
    path.write_bytes(data)
    found: list[str] = []
    with pytest.raises(TarDamage) as caught, TarReader(path) as reader:
        found.extend(clip.name for clip, _ in take(reader))
    assert (caught.value.verdict, found) == (verdict, names)


def test_allow_missing_end(path: Path) -> None:
    """The switch accepts a tar without an end marker, or with a very long one, last group included, and no other damage."""
    data = tar_bytes(FILES)
    everything = ["a.wav", "b.wav", "c.wav"]
    for whole in (data[:-1024], data[:-512], data + bytes(3 << 20)):
        assert [clip.name for clip in clips(path, whole, allow_missing_end=True)] == everything
    for how, (broken, verdict, _) in damaged().items():
        if verdict not in ("no_end_marker", "zero_tail"):
            with pytest.raises(TarDamage):
                clips(path, broken, allow_missing_end=True)
        else:
            assert clips(path, broken, allow_missing_end=True), how
    for too_short in (bytes(100), gzip.compress(b"")):
        with pytest.raises(TarDamage):
            clips(path, too_short, allow_missing_end=True)


def test_last_group_is_readable_when_a_missing_end_is_allowed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last clip's bytes can still be read then, from memory and from a file."""
    for limit in (10, 10_000):
        monkeypatch.setattr(tar_reader, "AUDIO_IN_MEMORY", limit)
        path.write_bytes(tar_bytes(FILES)[:-1024])
        with TarReader(path, allow_missing_end=True) as reader:
            assert [data for _, data in take(reader)] == [b"A" * 600, b"B" * 600, b"C" * 600]


def test_tar_without_clips(path: Path) -> None:
    """A proper tar without clips ends normally."""
    assert clips(path, [("README", b"x"), ("a.txt", b"t")]) == []
    assert clips(path, end_blocks()) == []


names = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "d/", "d.e/"]),
        st.sampled_from(["a", "b", "._a", ""]),
        st.sampled_from(["", ".1", ".x.y"]),
        st.sampled_from([".wav", ".WAV", ".flac", ".txt", ".json", ".lab", ".png"]),
    ),
)


@given(st.lists(names, max_size=30), st.integers(1, 4), st.sampled_from([None, TextRules()]))
def test_no_audio_member_is_lost(
    tmp_path_factory: pytest.TempPathFactory, files: list[str], most: int, rules: TextRules | None
) -> None:
    """Whatever the names and however they stand, every audio member is one clip, in tar order, and no sidecar is lost."""
    path = tmp_path_factory.getbasetemp() / "any.tar"
    contents = [(name, b"{}" if name.endswith("json") else b"%d" % n) for n, name in enumerate(files)]
    path.write_bytes(tar_bytes(contents))
    with pytest.MonkeyPatch.context() as patch, TarReader(path, texts=rules) as reader:
        patch.setattr(tar_reader, "CLIPS_IN_GROUP", most)
        found = [(clip.name, data) for clip, data in take(reader)]
        orphans = reader.orphan_sidecars
    audio = [
        (n, d) for n, d in contents if n.lower().endswith(("wav", "flac")) and not n.rpartition("/")[2].startswith("._")
    ]
    beside = [n for n, _ in contents if n.endswith(("txt", "json", "lab")) and not n.rpartition("/")[2].startswith("._")]
    assert found == audio
    assert 0 <= orphans <= len(beside)
    assert audio or orphans == len(beside)


ODD = b"".join(
    [
        link_member(b"early.wav", b"late.wav", b"2"),
        member(b"a.wav", b"A" * 700),
        member(b"x", b"30 GNU.sparse.map=600,3,700,0\n23 GNU.sparse.size=700\n", b"x") + member(b"b.wav", b"abc"),
        link_member(b"c.wav", b"b.wav"),
        link_member(b"c.txt", b"late.txt", b"2"),
        member(b"d", b"fLaC" + bytes(100)),
        link_member(b"e", b"d"),
        end_blocks(),
        member(b"late.wav", b"late"),
        member(b"late.txt", b"text"),
        link_member(b"lost.wav", b"no.wav"),
        end_blocks(),
    ]
)
NAMES_IN_ODD = ["early.wav", "a.wav", "b.wav", "c.wav", "d", "e", "late.wav", "lost.wav"]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(ODD)), st.binary(min_size=1, max_size=12)), max_size=4),
    repair=st.booleans(),
    cut=st.integers(0, len(ODD)) | st.none(),
    pack=st.booleans(),
    skipped=st.integers(0, 9),
)
def test_fuzz(edits: list[tuple[int, bytes]], repair: bool, cut: int | None, pack: bool, skipped: int) -> None:
    """Tars with links, sparse members and another tar behind them, overwritten and cut, under right checksums too: reading
    ends properly or with TarDamage; a clip that was not skipped has data or a fault; and clips are the same whatever is
    skipped.
    """
    data = bytearray(ODD)
    for place, new in edits:
        data[place : place + len(new)] = new
        header = place // 512 * 512
        if repair and data[header + 257 : header + 262] == b"ustar":
            data[header + 148 : header + 156] = b" " * 8
            data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    data = data[:cut]
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(gzip.compress(data) if pack else data)
        ends = []
        for skip in (0, skipped):
            names: list[str] = []
            verdict = ""
            try:
                with TarReader(Path(file.name), sniff=True, allow_joined=True, skip_clips=skip) as reader:
                    for clip, body in take(reader):
                        assert clip.index == len(names)
                        assert (body is None) == (clip.index < skip or clip.fault is not None)
                        names.append(clip.name)
            except TarDamage as damage:
                verdict = damage.verdict
            ends.append((names, verdict))
    if not edits and cut is None:
        assert ends == [(NAMES_IN_ODD, "")] * 2
    longer, shorter = sorted((names for names, _ in ends), key=len, reverse=True)
    assert longer[: len(shorter)] == shorter  # a link that is skipped is not followed, and may stand before the damage
    assert longer == shorter or ends[0][1]


SEGMENTS = b'{"segments": [{"start": 0, "end": 1, "text": "one"}, {"start": 1, "end": 2, "id": "x"}], "language": "en"}'


def given_out(path: Path, files: Files, **settings: object) -> list[tuple[int, str, int, bool, bool]]:
    """Index, name, number in its member, and whether there is audio: of a part, or whole."""
    found = []
    for clip in clips(path, files, **settings):
        found.append((clip.index, clip.name, clip.number, clip.part is not None, clip.audio is not None))
        clip.close()
    return found


@pytest.mark.parametrize("first", ["json", "wav"])
def test_segments_are_clips_of_their_own(first: str, path: Path) -> None:
    """In the place of their member, wherever its sidecar stands; members without segments are what they were."""
    group = [("b.json", SEGMENTS), ("b.wav", b"audio")]
    files = [("a.wav", b"audio"), *(group if first == "json" else group[::-1]), ("c.wav", b"audio")]
    assert given_out(path, files, cutting=Cutting(segments=True)) == [
        (0, "a.wav", 0, False, True),
        (1, "b.wav#0", 0, True, False),
        (2, "b.wav#x", 1, True, False),
        (3, "c.wav", 0, False, True),
    ]
    said = clips(path, files, cutting=Cutting(segments=True))[1].annotations
    assert (said.text, said.language, said.metadata) == ("one", "en", {"start": 0, "end": 1})


def test_segments_count_only_where_they_are_asked_for(path: Path) -> None:
    """Whisper's JSON beside audio that is wanted whole stays metadata, and subtitles are no sidecars."""
    path.write_bytes(tar_bytes([("b.wav", b"audio"), ("b.json", SEGMENTS), ("b.srt", b"1")]))
    with TarReader(path) as reader:
        ((clip, _),) = take(reader)
        assert (clip.name, set(clip.annotations.metadata or {})) == ("b.wav", {"segments"})
        assert reader.ignored == {"other": 1}


def test_a_list_alone_is_one_of_segments(path: Path) -> None:
    """Where segments are asked for; else it is a sidecar that cannot be read."""
    files = [("b.wav", b"audio"), ("b.json", b'[{"start": 0, "end": 1, "text": "one"}]')]
    (clip,) = clips(path, files, cutting=Cutting(segments=True))
    assert (clip.name, clip.annotations.text) == ("b.wav#0", "one")
    (clip,) = clips(path, files)
    assert (clip.name, clip.annotations.faults) == ("b.wav", 1)


@pytest.mark.parametrize("name", ["b.srt", "b.vtt", "b.en.vtt", "b.SRT"])
def test_subtitles_beside_audio(name: str, path: Path) -> None:
    """With or without a language in their name."""
    files = [("b.wav", b"audio"), (name, b"1\n00:00:01,000 --> 00:00:02,000\nwords\n")]
    (clip,) = clips(path, files, cutting=Cutting(segments=True))
    assert (clip.name, clip.annotations.text) == ("b.wav#1", "words")


def test_subtitles_in_several_languages(path: Path) -> None:
    """Which of them is spoken nobody knows: the clip is whole, and they are counted as orphans."""
    cue = b"1\n00:00:01,000 --> 00:00:02,000\nwords\n"
    path.write_bytes(tar_bytes([("b.wav", b"audio"), ("b.de.vtt", cue), ("b.en.vtt", cue)]))
    with TarReader(path, cutting=Cutting(segments=True)) as reader:
        assert [clip.name for clip, _ in take(reader)] == ["b.wav"]
        assert reader.orphan_sidecars == 2


def cues(text: str) -> str:
    return f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n"


def test_subtitles_are_read_as_other_texts_are(path: Path) -> None:
    """In the encoding that a person names; or in that which all texts of the tar show, those of subtitles among them: one
    alone would be too little.
    """
    short = cues("はい").encode("shift_jis")
    ((said, _), (told, _)) = (
        [(clip.annotations.text, clip.fault) for clip in clips(path, files, texts=rules, cutting=Cutting(segments=True))]
        for files, rules in (
            ([("a.wav", b"audio"), ("a.srt", short), ("b.wav", b"audio")], TextRules(encoding="cp932")),
            (
                [
                    *(("a.wav", b"audio"), ("a.srt", short)),
                    *(("b.wav", b"audio"), ("b.vtt", cues(" ".join(SENTENCES["ja"])).encode("shift_jis"))),
                ],
                TextRules(),
            ),
        )
    )
    assert said == told == ("はい", None)
    alone = [("a.wav", b"audio"), ("a.srt", short)]
    (clip,) = clips(path, alone, texts=TextRules(), cutting=Cutting(segments=True))
    assert clip.fault is not None
    assert str(clip.fault).startswith("a.srt: too little text to tell")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_subtitles_that_stand_apart(pack: Callable[[bytes], bytes], path: Path) -> None:
    """They are found as other sidecars are, by clips that have none beside them."""
    path.write_bytes(pack(tar_bytes([("a.wav", b"audio"), ("b.wav", b"audio"), ("a.srt", cues("words").encode())])))
    with TarReader(path, texts=TextRules(), cutting=Cutting(segments=True)) as reader:
        assert [(clip.name, clip.annotations.text) for clip, _ in take(reader)] == [("a.wav#1", "words"), ("b.wav", None)]
        assert reader.orphan_sidecars == 0


def test_parts_that_are_skipped_have_no_audio(path: Path) -> None:
    """Those before are named and numbered; of a member that is finished, nothing is read."""
    files = [(f"{name}{ending}", data) for name in "abc" for ending, data in ((".wav", b"audio"), (".json", SEGMENTS))]
    names = [f"{name}.wav#{part}" for name in "abc" for part in "0x"]
    for done in range(7):
        found = given_out(
            path, files, cutting=Cutting(segments=True), skip_clips=done, finished=FinishedMembers(names[:done])
        )
        assert [(index, name, number) for index, name, number, *_ in found] == [
            (index, name, index % 2) for index, name in enumerate(names)
        ]
        assert [part for *_, part, _ in found] == [index >= done for index in range(6)]


def test_whole_members_that_are_skipped_are_closed(path: Path) -> None:
    """Where members may be cut it is known too late that they need not be read."""
    files = [("a.wav", b"audio"), ("b.wav", b"audio"), ("c.wav", b"audio")]
    found = given_out(
        path, files, cutting=Cutting(segments=True), skip_clips=2, finished=FinishedMembers(["a.wav", "b.wav"])
    )
    assert [audio for *_, audio in found] == [False, False, True]


def test_sparse_members_are_cut_too(path: Path) -> None:
    """One that cannot be given back, or a link that leads nowhere, into clips of which each is an error."""
    good, bad = b"30 GNU.sparse.map=600,3,700,0\n23 GNU.sparse.size=700\n", b"23 GNU.sparse.size=700\n"
    members = [
        *(member(b"a.json", SEGMENTS), member(b"x", good, b"x"), member(b"a.wav", b"abc")),
        *(member(b"b.json", SEGMENTS), member(b"x", bad, b"x"), member(b"b.wav", b"abc")),
        *(member(b"c.json", SEGMENTS), link_member(b"c.wav", b"a.wav")),
        *(member(b"d.json", SEGMENTS), link_member(b"d.wav", b"no.wav")),
    ]
    path.write_bytes(b"".join([*members, end_blocks()]))
    with TarReader(path, cutting=Cutting(segments=True)) as reader:
        found = [
            (clip.index, clip.name, clip.part is not None, clip.fault and clip.fault.kind, clip.annotations.text)
            for clip, _ in take(reader)
        ]
        assert reader.linked_clips == 2
    assert found == [
        (
            2 * number + part,
            f"{name}.wav#{'0x'[part]}",
            name in "ac",
            None if name in "ac" else "decode",
            ("one", None)[part],
        )
        for number, name in enumerate("abcd")
        for part in (0, 1)
    ]


def test_where_the_next_clips_begin(path: Path) -> None:
    """Bytes before `next_offset` are those of the clips yielded so far, sidecars included."""
    files = [("a.wav", b"1"), ("a.txt", b"x"), ("b.flac", b"2"), ("b.wav", b"3"), ("c.wav", b"4")]
    path.write_bytes(tar_bytes(files))
    with TarReader(path) as reader:
        found = [(clip.name, reader.next_offset) for clip in reader]
    assert found == [("a.wav", 2048), ("b.flac", 4096), ("b.wav", 4096), ("c.wav", path.stat().st_size)]
