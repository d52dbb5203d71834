"""Recognise bytes between audio that are not lost audio: ID3, APE and Lyrics3 tags, internet radio titles, padding, text."""

from __future__ import annotations

import re

__all__ = [
    "LONGEST_TITLE",
    "TAG_HEAD",
    "id3v2_size",
    "junk_size",
    "only_tags",
    "radio_titles",
    "tag_is_cut",
    "tag_size",
]

TAG_HEAD = 32
"""Bytes that `tag_size` needs of a tag whose header states its length."""
ID3_HEADER = 10
ID3_FLAGS, ID3_ODD_FLAGS = 5, 0xE0
"""Offset of the flags, and the flags of tags whose frames cannot simply be followed."""
ID3_FRAME = re.compile(rb"[A-Z][A-Z0-9]{3}[\0-\xff]{6}", re.DOTALL)
ID3V1, ID3V1_EXTENDED = 128, 227
APE_HEADER = 32
LONGEST_LYRICS = 1 << 20
TITLE = re.compile(rb"StreamTitle='[\x20-\xfe]{0,1000}?';(?:Stream[\x20-\xfe]{0,1000}?;)?")
"""Shoutcast metadata: text padded with zeros to units of 16 bytes, after a byte that gives the number of units."""
LONGEST_TITLE = 1 + 255 * 16
ZEROS = re.compile(rb"\0+")
TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")
SHORT_TEXT = 16
"""Bytes: a shorter run that looks like text may be anything."""


def id3v2_size(head: bytes) -> int:
    """Size in bytes of the ID3v2 tag at the start of `head`; 0 if there is none."""
    if len(head) < ID3_HEADER or head[:3] != b"ID3" or head[3] == 0xFF or max(head[6:10]) > 0x7F:
        return 0
    return _syncsafe(head[6:10]) + ID3_HEADER * (2 if head[5] & 0x10 else 1)


def _syncsafe(stated: bytes) -> int:
    size = 0
    for byte in stated:
        size = size << 7 | byte & 0x7F
    return size


def tag_size(data: bytes, at: int = 0) -> int:
    """Size in bytes of the tag that begins at `at`, possibly beyond the end of `data`; 0 if none begins there."""
    if data.startswith(b"TAG+", at):
        return ID3V1_EXTENDED
    if data.startswith(b"TAG", at):
        return ID3V1
    if data.startswith(b"APETAGEX", at) and len(data) - at >= APE_HEADER:
        size, is_header = int.from_bytes(data[at + 12 : at + 16], "little"), data[at + 23] & 0x20
        return size + APE_HEADER if is_header else APE_HEADER
    if data.startswith(b"LYRICSBEGIN", at):
        for end in (b"LYRICS200", b"LYRICSEND"):
            found = data.find(end, at, at + LONGEST_LYRICS)
            if found > 0:
                return found + len(end) - at
    for begin in (at, at + 1):
        if (title := TITLE.match(data, begin)) is not None:
            return _title(data, title)[1] - at
    return id3v2_size(data[at : at + ID3_HEADER])


def only_tags(data: bytes, *, at_end: bool) -> bool:
    """Whether `data` holds only tags. `at_end` (after the last frame), padding, text and anything behind a tag count too.

    Inside a file, zeros are not padding: they may stand for audio, as a hole that a download left.
    """
    if at_end:
        return not data or tag_size(data) > 0 or _is_padding(data)
    at = 0
    while at < len(data):
        size = tag_size(data, at)
        if not size:
            return False
        at += size
    return at == len(data)


def junk_size(data: bytes) -> int:
    """How many bytes before the first frame are not audio: tags, zeros and text (a server's response, a web page)."""
    at = 0
    while at < len(data):
        if size := tag_size(data, at):
            at += size
            continue
        padding = ZEROS.match(data, at) or TEXT.match(data, at)
        if padding is None or (data[at] and padding.end() < min(at + SHORT_TEXT, len(data))):
            return at
        at = padding.end()
    return len(data)


def tag_is_cut(data: bytes) -> bool:
    """Whether `data` is an ID3v2 tag whose frames run past its stated size: the size is wrong, and what follows is tag."""
    size, version = id3v2_size(data), data[3] if len(data) > ID3_FLAGS else 0
    if not size or version not in (3, 4) or data[ID3_FLAGS] & ID3_ODD_FLAGS:
        return False
    at = ID3_HEADER
    while ID3_FRAME.match(data, at):
        stated = data[at + 4 : at + 8]
        length = int.from_bytes(stated, "big") if version == 3 else _syncsafe(stated)
        at += ID3_HEADER + length
    return at > size


def _is_padding(data: bytes) -> bool:
    """Whether zeros or text begin here, with a tag behind them or long enough not to be chance."""
    text = TEXT.match(data)
    size = len(data) - len(data.lstrip(b"\0")) or (len(text[0]) if text else 0)
    return size >= min(SHORT_TEXT, len(data)) or (size > 0 and tag_size(data, size) > 0)


def radio_titles(data: bytes) -> list[tuple[int, int]]:
    """(begin, end) of each internet radio title. Titles stand anywhere, even inside frames."""
    return [_title(data, match) for match in TITLE.finditer(data)]


def _title(data: bytes, match: re.Match[bytes]) -> tuple[int, int]:
    """(begin, end) of a title, including its length byte and its zero padding."""
    begin, text_end = match.span()
    length = -(-(text_end - begin) // 16) * 16
    stated = data[begin - 1] * 16 if begin else 0
    if length <= stated <= len(data) - begin and not data[text_end : begin + stated].strip(b"\0"):
        return begin - 1, begin + stated
    zeros = len(data[text_end : begin + LONGEST_TITLE]) - len(data[text_end : begin + LONGEST_TITLE].lstrip(b"\0"))
    return begin, text_end + zeros
