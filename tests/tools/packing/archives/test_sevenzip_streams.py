import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile_archives import number

from audio_tokenizers.errors import UsageError
from tools.packing.archives.sevenzip_streams import Broken, Fields, read_streams

ARCHIVE = Path("x.7z")
COPY_FOLDER = b"\x01\x01\x00"


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_of_every_length_are_read(value: int) -> None:
    """From one byte to nine, and not a byte more."""
    fields = Fields(number(value) + b"rest")
    assert fields.number() == value
    assert fields.rest() == b"rest"


@given(st.binary(max_size=40))
def test_any_bytes_are_streams_or_broken(data: bytes) -> None:
    """Nothing but Broken or a refusal comes of what is no list."""
    try:
        read_streams(ARCHIVE, Fields(b"\x06" + data))
    except (Broken, UsageError):
        return
    assert b"\x00" in data


def test_bits_and_the_things_that_have_values() -> None:
    """The highest bit comes first; a leading byte says that all have one."""
    assert Fields(b"\xa0\x80").bits(9) == [True, False, True, False, False, False, False, False, True]
    assert Fields(b"\x01" + struct.pack("<II", 7, 8)).crcs(2) == [7, 8]
    assert Fields(b"\x00\x40" + struct.pack("<I", 7)).crcs(2) == [None, 7]


def test_files_of_several_blocks_have_sizes_and_crcs() -> None:
    """The last size of a block is what is left of it; a block with one file may have its CRC from the block."""
    pack_info = b"\x06" + number(0) + number(2) + b"\x09" + number(10) + number(5) + b"\x00"
    unpack_info = b"\x07\x0b\x02\x00" + 2 * COPY_FOLDER + b"\x0c" + number(10) + number(5)
    unpack_info += b"\x0a\x00\x40" + struct.pack("<I", 99) + b"\x00"
    substreams = b"\x08\x0d\x03\x01\x09" + number(4) + number(1) + b"\x0a\x01" + struct.pack("<III", 1, 2, 3) + b"\x00"
    streams = read_streams(ARCHIVE, Fields(pack_info + unpack_info + substreams + b"\x00"))
    assert streams.files == [(4, 1), (1, 2), (5, 3), (5, 99)]
    assert streams.packed == [10, 5]
    without = read_streams(ARCHIVE, Fields(pack_info + unpack_info + b"\x00"))
    assert without.files == [(10, None), (5, 99)]


def test_the_size_of_a_chain_is_that_of_its_last_coder() -> None:
    """With two coders, what goes into the other one does not count."""
    folder = b"\x02" + b"\x01\x00" + b"\x01\x00" + number(0) + number(1)
    data = b"\x07\x0b\x01\x00" + folder + b"\x0c" + number(7) + number(9) + b"\x00\x00"
    assert read_streams(ARCHIVE, Fields(data)).files == [(7, None)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x06" + number(0) + number(1 << 60) + b"\x00",
        b"\x07\x0b" + number(1 << 60) + b"\x00",
        b"\x07\x0b\x01\x00" + COPY_FOLDER + b"\x0c\x05\x00\x08\x0d" + number(1 << 60),
    ],
)
def test_counts_that_cannot_be_true_are_refused_before_anything_is_made_of_them(data: bytes) -> None:
    """Such as more files than anybody has."""
    with pytest.raises(UsageError, match="claims 1,152,921,504,606,846,976 members"):
        read_streams(ARCHIVE, Fields(data))


def test_files_larger_than_their_block_are_broken() -> None:
    """Sizes that do not add up would shift every file after them."""
    data = b"\x07\x0b\x01\x00" + COPY_FOLDER + b"\x0c\x05\x00\x08\x0d\x02\x09" + number(6) + b"\x00\x00"
    with pytest.raises(Broken, match="larger than what they are in"):
        read_streams(ARCHIVE, Fields(data))
