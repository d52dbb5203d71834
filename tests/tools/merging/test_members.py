"""tools/merging/members.py: one committed file as one member, in blocks, checked."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.committed_runs import BICODEC_FIELDS, READ_BACK, error, make_run, record, some_records

from audio_tokenizers.errors import InfrastructureError
from jobs.records import Record
from tools.common.run_files import CommittedFile
from tools.merging import members as module
from tools.merging.members import Compression, Made, make_member
from tools.merging.shapes import Shape


def member(file: CommittedFile, shape: Shape | None, compression: Compression, **settings: Any) -> tuple[bytes, Made]:
    pieces: list[bytes] = []
    made = make_member(file, shape, compression, pieces.append, **settings)
    return b"".join(pieces), made


@pytest.mark.parametrize("compression", READ_BACK)
@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_lines_as_they_are(tmp_path: Path, compression: Compression, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of the file comes back, errors included, in blocks of whatever size; the bytes read are told."""
    monkeypatch.setattr(module, "BLOCK", block)
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    told: list[int] = []
    found, made = member(file, None, compression, tell=told.append)
    assert READ_BACK[compression](found) == file.path.read_bytes()
    assert made == Made(4)
    assert sum(told) == file.bytes


@pytest.mark.parametrize("compression", READ_BACK)
@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_lines_in_a_shape(tmp_path: Path, compression: Compression, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of the shape, in order, and what was left out, by kind."""
    monkeypatch.setattr(module, "BLOCK", block)
    values = {"global_tokens": b"[1]", "semantic_tokens": b"[2]"}
    clips: list[Record] = [
        record(values, text="a"),
        error("too_long"),
        record(values),
        record(values, text="b", language="en"),
        error(),
    ]
    (file,) = make_run(tmp_path / "tokens", {"1": clips}, BICODEC_FIELDS)
    told: list[int] = []
    found, made = member(file, "bicodec", compression, tell=told.append)
    assert READ_BACK[compression](found) == (
        b'{"language":"","text":"a","global_tokens":[1],"semantic_tokens":[2]}\n'
        b'{"language":"en","text":"b","global_tokens":[1],"semantic_tokens":[2]}\n'
    )
    assert made == Made(2, {"decode": 1, "no_text": 1, "too_long": 1})
    assert sum(told) == file.bytes


@pytest.mark.parametrize("compression", READ_BACK)
@pytest.mark.parametrize(("records", "shape"), [([], None), ([error()], "higgs")])
def test_no_lines_no_member(tmp_path: Path, compression: Compression, records: list[Record], shape: Shape | None) -> None:
    """A file without lines, or of which all are left out, gives no byte: not even an empty member."""
    (file,) = make_run(tmp_path / "tokens", {"1": records})
    found, made = member(file, shape, compression)
    assert (found, made.lines) == (b"", 0)


def test_headers_say_nothing_of_the_moment(tmp_path: Path) -> None:
    """A gzip member has no name and no time, and a zstd frame a checksum: the same lines give the same bytes."""
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    assert member(file, None, "gz")[0][:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    frame = member(file, None, "zst")[0]
    assert frame[:4] == b"\x28\xb5\x2f\xfd"
    assert frame[4] & 4


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A member is made from blocks: neither the file nor what becomes of it is ever held whole."""
    clip = record({"tokens": b"[[" + b"123,456," * 20000 + b"7]]", "token_shape": b"[1,40001]"})
    (file,) = make_run(tmp_path / "tokens", {"1": [clip] * 150})
    for shape in (None, "higgs"):
        largest = 0

        def put(data: bytes) -> None:
            nonlocal largest
            largest = max(largest, len(data))

        tracemalloc.start()
        try:
            make_member(file, shape, "plain", put)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert file.bytes > 20 << 20
        assert largest < 2 << 20
        assert peak < 8 << 20


@pytest.mark.parametrize("shape", [None, "higgs"])
def test_damage_is_found(tmp_path: Path, shape: Shape | None) -> None:
    """A byte that has changed since the commit stops the merge with the file's name and what to do, in any shape."""
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    file.path.write_bytes(file.path.read_bytes().replace(b"[[1,", b"[[9,", 1))
    with pytest.raises(InfrastructureError, match=r"1.jsonl: its bytes are not those that were committed.* hpc.submit"):
        member(file, shape, "gz")


def test_what_is_no_record(tmp_path: Path) -> None:
    """A committed line that is no record is named by its number."""
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    first = file.path.read_bytes().split(b"\n")[0]
    file.path.write_bytes(first + b'\n{"tar_file": 3}\n')
    with pytest.raises(InfrastructureError, match=r"1.jsonl: line 2 is no record"):
        member(file, "higgs", "plain")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Trouble with reading is the machine's, and names the file."""
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    file.path.unlink()
    with pytest.raises(InfrastructureError, match=r"1.jsonl: cannot be read: No such file"):
        member(file, None, "plain")


class Enough(BaseException):
    """Nobody wants the member any more."""


def test_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hears of bytes may end the work: the rest of the file is not read."""
    monkeypatch.setattr(module, "BLOCK", 64)
    (file,) = make_run(tmp_path / "tokens", {"1": some_records(1)})
    told: list[int] = []

    def tell(size: int) -> None:
        told.append(size)
        if len(told) == 2:
            raise Enough

    with pytest.raises(Enough):
        member(file, None, "plain", tell=tell)
    assert told == [64, 64]
