"""tools/common/tar_header.py: headers are tarfile's, byte for byte."""

from __future__ import annotations

import io
import tarfile

import pytest

from tools.common.tar_header import tar_header


@pytest.mark.parametrize("name", ["a.json", "語/é.tokens.npy", "x" * 99, "x" * 100, "x" * 101, "語" * 80])
@pytest.mark.parametrize("size", [0, 1, 512, 1 << 40])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    """The quick way to a header gives the bytes of the long one: GNU format, no owner, no time."""
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar_header(name, size) == info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def test_names_of_any_length_and_script_come_back() -> None:
    """A header holds a name of 300 characters of any script, and nothing that depends on time or place."""
    name = "語" * 300 + ".wav"
    with tarfile.open(fileobj=io.BytesIO(tar_header(name, 0) + bytes(1024))) as tar:
        (found,) = tar.getmembers()
    assert (found.name, found.mtime, found.uid, found.uname) == (name, 0, 0, "")
