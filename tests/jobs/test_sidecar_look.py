"""jobs/sidecar_look.py: what a look over all of a tar finds, and what it costs."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.tars import end_blocks, member, tar_bytes

from jobs import sidecar_look
from jobs.sidecar_look import SidecarLook, texts_of
from jobs.tar_format import TarStream

Files = list[tuple[str, bytes]]
FILES: Files = [
    ("a.wav", b"x" * 100_000),
    ("b.wav", b"y" * 100_000),
    ("a.txt", b"one"),
    ("b.json", b'{"text": "two"}'),
    ("._c.txt", b""),
]


def opening(path: Path, files: Files, pack: Callable[[bytes], bytes] = bytes, **more: Any) -> Callable[[], TarStream]:
    path.write_bytes(pack(tar_bytes(files)))
    return partial(TarStream, path, **more)


def completed(look: SidecarLook, audio: str, **files: tuple[str, bytes | str]) -> dict[str, tuple[str, bytes | str]]:
    look.complete(audio, files)
    return files


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_stands_elsewhere(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """It is added to what a clip has, by extension, and noted as taken; nothing takes the place of what is there."""
    look = SidecarLook(opening(tmp_path / "x.tar", FILES, pack), ("wav",))
    try:
        assert completed(look, "a.wav") == {"txt": ("a.txt", b"one")}
        assert completed(look, "b.wav", json=("own", b"")) == {"json": ("own", b"")}
        assert look.taken == {"a.txt"}
        assert completed(look, "c.wav") == {}
    finally:
        look.close()


def test_all_audio_in_front_of_damage_counts(tmp_path: Path) -> None:
    """A sidecar that could be one of two clips' is nobody's, though the tar is cut behind them."""
    files = [("aa.wav", b"x"), ("Aa.wav", b"x"), ("AA.txt", b"whose"), ("b.wav", b"x"), ("c.wav", b"x" * 5000)]
    path = tmp_path / "x.tar"
    data = tar_bytes(files)
    path.write_bytes(data[: data.index(b"x" * 5000) + 1000])
    look = SidecarLook(partial(TarStream, path), ("wav",))
    found = completed(look, "aa.wav")
    look.close()
    assert [(name, "Aa and aa" in str(words)) for name, words in found.values()] == [("aa.wav: its .txt", True)]


def test_a_plain_tar_is_looked_over_by_its_headers(tmp_path: Path) -> None:
    """What lies between them is not read."""
    pieces: list[int] = []
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(FILES))
    stream = partial(TarStream, path, read_bytes=512, seek_over=512, on_read=lambda: pieces.append(1))
    look = SidecarLook(stream, ("wav",))
    assert len(pieces) < 30  # of 400 pieces of 512 bytes
    assert completed(look, "b.wav") == {"json": ("b.json", b'{"text": "two"}')}
    look.close()


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many members the first are known; a sidecar that is too large, or behind too many, is named and not read."""
    monkeypatch.setattr(sidecar_look, "LARGEST_SIDECAR", 10)
    look = SidecarLook(opening(tmp_path / "x.tar", FILES), ("wav",))
    assert completed(look, "b.wav")["json"][1] == "larger than 16,777,216 bytes"
    look.close()
    monkeypatch.setattr(sidecar_look, "LARGEST_SIDECAR", 100)
    monkeypatch.setattr(sidecar_look, "SPOOL_BYTES", 3)
    look = SidecarLook(opening(tmp_path / "x.tar", FILES, gzip.compress), ("wav",))
    assert completed(look, "a.wav")["txt"] == ("a.txt", b"one")
    assert "stands apart from its audio" in str(completed(look, "b.wav")["json"][1])
    look.close()
    monkeypatch.setattr(sidecar_look, "MOST_MEMBERS", 3)
    look = SidecarLook(opening(tmp_path / "x.tar", FILES), ("wav",))
    assert completed(look, "a.wav") == {"txt": ("a.txt", b"one")}
    assert completed(look, "b.wav") == {}
    look.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_texts(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """In their order; of a damaged tar those before the damage."""
    opened = opening(tmp_path / "x.tar", FILES, pack)
    assert list(texts_of(opened)) == [b"one", b'{"text": "two"}']
    whole = tar_bytes(FILES)
    (tmp_path / "x.tar").write_bytes(pack(whole[: whole.index(b"b.json") + 100]))
    assert list(texts_of(opened)) == [b"one"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sidecar_that_is_stored_without_its_holes(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """It is given back as the file that it was, not as it is stored."""
    path = tmp_path / "x.tar"
    sparse = member(b"x", b"28 GNU.sparse.map=0,3,700,0\n23 GNU.sparse.size=700\n", b"x") + member(b"a.txt", b"one")
    path.write_bytes(pack(member(b"a.wav", b"x") + member(b"b.wav", b"y") + sparse + end_blocks()))
    look = SidecarLook(partial(TarStream, path), ("wav",))
    try:
        assert completed(look, "a.wav") == {"txt": ("a.txt", b"one" + bytes(697))}
    finally:
        look.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_archives_end_to_end(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Each numbers its recordings from 0: what stands beside one of them is no other's in another archive. What stands alone
    is that of the one clip with its name, wherever it is.
    """
    first = tar_bytes([("0.wav", b""), ("0.txt", b"first"), ("1.txt", b"one"), ("2.wav", b"")])
    second = tar_bytes([("2.txt", b"alone"), ("0.wav", b""), ("1.wav", b"")])
    (tmp_path / "x.tar").write_bytes(pack(first + second))
    look = SidecarLook(partial(TarStream, tmp_path / "x.tar", allow_joined=True), ("wav",))
    for archive, name, texts in (
        (0, "0.wav", [b"first"]),
        (1, "0.wav", []),
        (1, "1.wav", [b"one"]),
        (0, "2.wav", [b"alone"]),
    ):
        found: dict[str, tuple[str, bytes | str]] = {}
        look.complete(name, found, archive)
        assert [content for _, content in found.values()] == texts, (archive, name)
    look.close()


def test_audio_by_its_first_bytes_has_its_sidecars_at_home(tmp_path: Path) -> None:
    """Where any file may be audio, what stands beside one goes first to it, as beside a known extension."""
    files = [("1", b""), ("1.txt", b"its own"), ("2.wav", b""), ("1.mic2.wav", b""), ("1.json", b"apart")]
    for sniff in (False, True):
        look = SidecarLook(opening(tmp_path / "x.tar", files), ("wav",), sniff=sniff)
        shared = {"txt": ("1.txt", b"its own")}
        assert completed(look, "1.mic2.wav", json=("1.json", b"apart")) == {"json": ("1.json", b"apart")} | (
            {} if sniff else shared
        )
        look.close()
