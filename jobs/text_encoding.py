"""The encoding of texts that are not UTF-8: detected from all texts of a tar or source together, or given by the user.

charset-normalizer shortlists the encodings in which the texts are not a mess. Among several candidates letter frequencies
decide: each language writes most of its text with few of the letters in its encoding. An uncertain result is rejected.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from audio_tokenizers.errors import UsageError
from jobs.text_letters import bits, looks_written

__all__ = [
    "AUTO",
    "TextDecoder",
    "check_encoding",
    "decode_legacy",
    "decode_text",
    "find_encoding",
    "wide_encoding",
]

AUTO = "auto"
SAMPLE_BYTES = 256 << 10
"""Size of the sample for detection: the first texts that are not UTF-8."""
MOST_TEXTS = 1 << 16
"""Texts examined for the sample; if all of these are UTF-8, there is nothing to detect the encoding of the rest from."""
LONGEST_TEXT = 16 << 10
"""Bytes of one text in the sample, to keep a long one from dominating."""
MOST_MESS = 0.2
"""charset-normalizer's mess ratio, 0 to 1, at its own default."""
SURE, SURE_OF_CHINESE, TRUST = 10.0, 1.5, 0.5
"""Bits; and the weight of a bit, since the letters of a word are not independent. GB18030 needs fewer: it once was the only
alternative to UTF-8, and short texts that were read correctly then must still be."""
SLACK = 3.0
"""Extra bits per letter allowed for a single text: it may be a list of names."""
LEAST_LETTERS = 4
"""Outside ASCII, in all texts together."""
MOST_READABLE = 0.9
"""Share of the lines: a few may be damaged."""
SAY_IT = "say it with --text-encoding"

MULTIBYTE = ("gb18030", "cp932", "euc_jis_2004", "cp949", "big5")
SINGLE_BYTE = (
    *("cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "iso8859_5", "cp866", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp1257", "tis_620"),
)
UTF16 = ("utf_16_le", "utf_16_be")
MARKS = (
    (codecs.BOM_UTF32_LE, "utf_32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf_32"),
    (codecs.BOM_UTF16_LE, "utf_16"),
    (codecs.BOM_UTF16_BE, "utf_16"),
    (codecs.BOM_UTF8, "utf_8_sig"),
)
SUPERSETS = {"shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949"}
"""Declared encoding -> the superset that such files really use, as browsers treat it."""
NO_TEXT = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7"}
CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1b")
UTF16_CONTROLS, UTF16_RATIO = 0.3, 3
"""Least share of controls at every second byte, and least ratio to those at the other bytes: in UTF-16 the high bytes of
Latin, Greek and Cyrillic letters are controls, which UTF-8 text does not contain."""
LEAST_KANA, KANA_HIGH, KANA_LOW = 4, b"\x30", bytes((0, 1, 2, *range(0x41, 0x80)))
"""Kana and their punctuation are U+3000 to U+30FF; with these low bytes their UTF-16 also passes as ASCII."""


def check_encoding(name: str) -> str:
    """Return `auto`, or Python's name of a text codec. Raises UsageError for anything else."""
    if name.lower() == AUTO:
        return AUTO
    try:
        found = codecs.lookup(name).name
        "a".encode(found).decode(found)
    except (LookupError, UnicodeError, ValueError, TypeError, AttributeError):
        found = "undefined"
    if found in NO_TEXT:
        raise UsageError(
            f"--text-encoding {name!r}: expected auto, or an encoding that Python knows, such as shift_jis, euc_kr, big5, "
            "gb18030, cp1252 or utf-16"
        )
    return SUPERSETS.get(found, found)


def decode_legacy(data: bytes) -> str:
    """Decode as runs older than encoding detection do: UTF-8, with or without a byte order mark, or GB18030."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def wide_encoding(head: bytes, encoding: str = AUTO) -> str | None:
    """The encoding of a line file whose newlines take more than one byte, else None. `head`: its first four bytes."""
    for mark, found in MARKS:
        if head.startswith(mark):
            return None if found == "utf_8_sig" else found
    if encoding == AUTO:
        return _utf16_json(head)
    return encoding if len("\n".encode(encoding)) > 1 else None


def decode_text(data: bytes, encoding: str = AUTO) -> str:
    """Decode a text on its own, such as a table. Raises UnicodeDecodeError, whose `reason` is a message for users."""
    return TextDecoder(encoding, lambda: (data,)).decode(data)


class TextDecoder:
    """Decodes the texts of one tar or source, which share one encoding except where a text itself shows another.

    With `auto`, a byte order mark decides for its text, then valid UTF-8, then UTF-16 by its zero bytes. The first text that
    is none of these triggers detection over all texts, always from the first one on.
    """

    def __init__(self, encoding: str, texts: Callable[[], Iterable[bytes]]) -> None:
        """`texts` yields the source's texts from the first on, always in the same order."""
        self._encoding = encoding
        self._texts = texts
        self._found: Found | None = None
        self._lock = threading.Lock()

    @property
    def found(self) -> str:
        """The detected encoding of texts that do not show theirs; empty if there were none, or if detection is uncertain."""
        return self._found.encoding if self._found is not None else ""

    def decode(self, data: bytes) -> str:
        """Decode a text. Raises UnicodeDecodeError, with a message as `reason`, if its encoding is unknown or wrong."""
        if (text := _marked(data)) is not None:
            return text
        if self._encoding != AUTO:
            return _strictly(data, self._encoding, f"no {self._encoding} text, which --text-encoding says it is")
        if (text := _plain(data)) is not None:
            return text
        found = self._look()
        if not found.encoding:
            raise UnicodeDecodeError("text", data[:1], 0, 1, found.words)
        others = f"{found.encoding}, as the others are"
        text = _strictly(data, found.encoding, f"neither UTF-8 nor {others}")
        if not looks_written(text, found.encoding, slack=SLACK):
            raise UnicodeDecodeError("text", data[:1], 0, 1, f"does not look as if it were {others}: {SAY_IT}")
        return text

    def _look(self) -> Found:
        with self._lock:  # detection runs once; other threads wait for it
            if self._found is None:
                self._found = find_encoding(self._texts())
            return self._found


@dataclass(frozen=True, slots=True)
class Found:
    """The result of detection."""

    encoding: str
    """Empty if uncertain."""
    words: str = ""
    """Why it is uncertain."""


def _strictly(data: bytes, encoding: str, reason: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError:
        raise UnicodeDecodeError("text", data[:1] or b"?", 0, 1, reason) from None


def _marked(data: bytes) -> str | None:
    """Decode data that has a byte order mark and fits it, else None."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                return None
    return None


def _plain(data: bytes) -> str | None:
    """Decode data that is recognizably UTF-8, UTF-16 without a mark or ISO-2022-JP, else None."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _read_as(data, _utf16_json(data) or _utf16_letters(data, b"\0")) or _with_surrogates(data)
    encoding = (
        _utf16_json(data)
        or _utf16_kana(data)
        or _utf16_letters(data, CONTROLS)
        or ("iso2022_jp_2" if b"\x1b$" in data else None)
    )
    return _read_as(data, encoding) or text


def _read_as(data: bytes, encoding: str | None) -> str | None:
    try:
        return None if encoding is None else data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _with_surrogates(data: bytes) -> str | None:
    """Decode UTF-8 with surrogates encoded one by one (CESU-8, `surrogatepass`): pairs are joined, lone ones stay."""
    if b"\xed" not in data:
        return None
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _utf16_json(data: bytes) -> str | None:
    """The UTF-16 byte order of a JSON object or list, by its first two bytes (RFC 4627, section 3), or None."""
    first = data[:2]
    if len(data) % 2 or len(first) < 2 or first.strip(b"{[") != b"\0":
        return None
    return "utf_16_be" if first[0] == 0 else "utf_16_le"


def _utf16_kana(data: bytes) -> str | None:
    """The byte order of Japanese UTF-16 that also passes as ASCII, or None."""
    if 2 * data.count(KANA_HIGH) != len(data):
        return None
    for high, low, encoding in ((data[1::2], data[::2], "utf_16_le"), (data[::2], data[1::2], "utf_16_be")):
        if len(low) == len(high) >= LEAST_KANA and not high.strip(KANA_HIGH) and not low.translate(None, KANA_LOW):
            return encoding
    return None


def _utf16_letters(data: bytes, high: bytes) -> str | None:
    """The byte order of UTF-16 whose high bytes are mostly in `high` and whose low bytes rarely are, or None."""
    if len(data) % 2 or not data:
        return None
    even, odd = (len(half) - len(half.translate(None, high)) for half in (data[::2], data[1::2]))
    if max(even, odd) < UTF16_CONTROLS * (len(data) // 2) or UTF16_RATIO * min(even, odd) > max(even, odd):
        return None
    return "utf_16_le" if odd > even else "utf_16_be"


def find_encoding(texts: Iterable[bytes]) -> Found:
    """Detect the encoding of those `texts` that do not show theirs. The same texts give the same answer.

    Candidates are the encodings that decode MOST_READABLE of the lines and in which charset-normalizer finds a mess ratio of
    at most MOST_MESS. By its letters the winner must be SURE bits likelier than every candidate that gives another text: 10
    bits are a thousand to one.
    """
    sample = _sample(texts)
    lines = [line for text in sample for line in text.split(b"\n") if not line.isascii()]
    readings = _readings(lines, b"\n", (*MULTIBYTE, *SINGLE_BYTE))
    if all(len(text) % 2 == 0 for text in sample):
        readings += _readings(sample, b"", UTF16)
    if not readings:
        return Found("", f"in no encoding that is known: {SAY_IT}")
    readings.sort(key=lambda reading: reading.bits)
    best, *others = readings
    rival = next((other for other in others if other.text != best.text), None)
    if sum(not letter.isascii() for letter in best.text) < LEAST_LETTERS and best.encoding != "gb18030":
        return Found("", f"too little text to tell in which encoding: {SAY_IT}")
    if not looks_written(best.text, best.encoding):
        return Found("", f"in no encoding that is known: {SAY_IT}")
    sure = SURE_OF_CHINESE if best.encoding == "gb18030" else SURE
    if rival is not None and TRUST * (rival.bits - best.bits) < sure:
        return Found("", f"too little text to tell whether it is {best.encoding} or {rival.encoding}: {SAY_IT}")
    return Found(best.encoding)


def _sample(texts: Iterable[bytes]) -> list[bytes]:
    """The beginnings of texts that do not show their encoding, until SAMPLE_BYTES are reached."""
    found: list[bytes] = []
    size = 0
    for text in islice(texts, MOST_TEXTS):
        if _marked(text) is None and _plain(text) is None:
            found.append(_beginning(text))
            size += len(found[-1])
            if size >= SAMPLE_BYTES:
                break
    return found


def _beginning(text: bytes) -> bytes:
    """A prefix cut between characters in any encoding but UTF-16: no later byte of a character equals one of these marks."""
    if len(text) <= LONGEST_TEXT:
        return text
    end = max(text.rfind(mark, 0, LONGEST_TEXT) for mark in (b"\n", b" ", b",", b'"'))
    return text[: end + end % 2 if end > 0 else LONGEST_TEXT]


@dataclass(frozen=True, slots=True)
class _Reading:
    """The sample, decoded in one encoding."""

    encoding: str
    text: str
    bits: float


def _readings(pieces: Sequence[bytes], between: bytes, encodings: Sequence[str]) -> list[_Reading]:
    """Decode in each able encoding the pieces that all able ones can decode; drop messy results.

    An encoding is able if it decodes nearly all pieces.
    """
    readable = {encoding: [_reads(piece, encoding) for piece in pieces] for encoding in encodings}
    able = [encoding for encoding in encodings if sum(readable[encoding]) >= MOST_READABLE * len(pieces)]
    data = between.join(piece for number, piece in enumerate(pieces) if all(readable[name][number] for name in able))
    texts = {name: data.decode(name) for name in able if data and not _is_mess(data, name)}
    return [_Reading(name, text, bits(text, name)) for name, text in texts.items()]


def _is_mess(data: bytes, encoding: str) -> bool:
    from charset_normalizer import from_bytes

    # One encoding at a time: after a messy one it skips similar encodings.
    return not from_bytes(
        data,
        steps=max(5, min(64, len(data) // 512)),
        threshold=MOST_MESS,
        cp_isolation=[encoding],
        preemptive_behaviour=False,
        enable_fallback=False,
    )


def _reads(piece: bytes, encoding: str) -> bool:
    try:
        piece.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
