"""In which encoding texts are that are no UTF-8: told from all texts of a tar or source together, or said by a person.

charset-normalizer shortlists the encodings in which the texts are no mess. Where several are left, the letters decide: each
language writes most of its text with few of the letters that its encoding has. What is not sure is no text.
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
"""Of texts that are no UTF-8, from the first on: what the encoding is told from."""
MOST_TEXTS = 1 << 16
"""Looked at for that; where all of these are UTF-8, none of the rest has company that tells."""
LONGEST_TEXT = 16 << 10
"""Of one text in the sample, so that no long one speaks for all."""
MOST_MESS = 0.2
"""Of charset-normalizer's mess ratio, 0 to 1, whose own default this is."""
SURE, SURE_OF_CHINESE, TRUST = 10.0, 1.5, 0.5
"""Bits; and what a bit counts, since the letters of a word are no independent witnesses. GB18030 needs fewer: it was all
that there was beside UTF-8 before, and short texts that were read right stay so."""
SLACK = 3.0
"""More bits per letter that one text may cost than all together: it may be a list of names."""
LEAST_LETTERS = 4
"""Outside ASCII, in all texts together."""
MOST_READABLE = 0.9
"""Of the lines: a few may be damaged."""
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
"""What a file that is called so is written with, as every browser reads it."""
NO_TEXT = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7"}
CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1b")
UTF16_CONTROLS, UTF16_RATIO = 0.3, 3
"""Share of every second byte, and how many times as many as of the others: in UTF-16 the high bytes of Latin, Greek and
Cyrillic letters are controls, of which UTF-8 text has none."""
LEAST_KANA, KANA_HIGH, KANA_LOW = 4, b"\x30", bytes((0, 1, 2, *range(0x41, 0x80)))
"""Kana and their punctuation are U+3000 to U+30FF, of which these low bytes make UTF-8 of nothing but ASCII."""


def check_encoding(name: str) -> str:
    """`auto`, or the name of a codec for texts as Python spells it. Raises UsageError at anything else."""
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
    """As runs read texts that began before encodings were told: UTF-8, with or without a mark, or GB18030."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def wide_encoding(head: bytes, encoding: str = AUTO) -> str | None:
    """The encoding of a file of lines whose newlines are more than one byte, by its first four and what was said of it."""
    for mark, found in MARKS:
        if head.startswith(mark):
            return None if found == "utf_8_sig" else found
    if encoding == AUTO:
        return _utf16_json(head)
    return encoding if len("\n".encode(encoding)) > 1 else None


def decode_text(data: bytes, encoding: str = AUTO) -> str:
    """One text that stands for itself, such as a table. Raises UnicodeDecodeError, with the reason in words."""
    return TextDecoder(encoding, lambda: (data,)).decode(data)


class TextDecoder:
    """Decodes the texts of one tar or source, which are in one encoding unless they say or show another.

    With `auto`, a byte order mark decides for its text, then UTF-8 where that fits, then UTF-16 by its zero bytes. The first
    text that is none of these has all of them looked at, from the first on, whichever text that was.
    """

    def __init__(self, encoding: str, texts: Callable[[], Iterable[bytes]]) -> None:
        """`texts` gives the source's texts from the first on, always in the same order."""
        self._encoding = encoding
        self._texts = texts
        self._found: Found | None = None
        self._lock = threading.Lock()

    @property
    def found(self) -> str:
        """The encoding of the texts that do not show it themselves; empty if there were none, or none is sure."""
        return self._found.encoding if self._found is not None else ""

    def decode(self, data: bytes) -> str:
        """The text. Raises UnicodeDecodeError, with the reason in words, where it cannot be told or does not fit."""
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
        with self._lock:  # other threads wait for the one look
            if self._found is None:
                self._found = find_encoding(self._texts())
            return self._found


@dataclass(frozen=True, slots=True)
class Found:
    """What the texts were found to be in."""

    encoding: str
    """Empty where it is not sure."""
    words: str = ""
    """Why not."""


def _strictly(data: bytes, encoding: str, reason: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError:
        raise UnicodeDecodeError("text", data[:1] or b"?", 0, 1, reason) from None


def _marked(data: bytes) -> str | None:
    """The text of data with a byte order mark that is true."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                return None
    return None


def _plain(data: bytes) -> str | None:
    """The text of data that shows by itself that it is UTF-8, UTF-16 without a mark, or Japan's 7-bit encoding."""
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
    """UTF-8 in which surrogates were encoded one by one (CESU-8, `surrogatepass`): pairs are joined, others stay."""
    if b"\xed" not in data:
        return None
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _utf16_json(data: bytes) -> str | None:
    """Which UTF-16 begins an object or a list here (as RFC 4627 tells it)."""
    first = data[:2]
    if len(data) % 2 or len(first) < 2 or first.strip(b"{[") != b"\0":
        return None
    return "utf_16_be" if first[0] == 0 else "utf_16_le"


def _utf16_kana(data: bytes) -> str | None:
    """Which UTF-16 of Japanese this would be, though it looks like ASCII."""
    if 2 * data.count(KANA_HIGH) != len(data):
        return None
    for high, low, encoding in ((data[1::2], data[::2], "utf_16_le"), (data[::2], data[1::2], "utf_16_be")):
        if len(low) == len(high) >= LEAST_KANA and not high.strip(KANA_HIGH) and not low.translate(None, KANA_LOW):
            return encoding
    return None


def _utf16_letters(data: bytes, high: bytes) -> str | None:
    """Which UTF-16 this would be, with bytes in every second place that are one of `high`, and few in the others."""
    if len(data) % 2 or not data:
        return None
    even, odd = (len(half) - len(half.translate(None, high)) for half in (data[::2], data[1::2]))
    if max(even, odd) < UTF16_CONTROLS * (len(data) // 2) or UTF16_RATIO * min(even, odd) > max(even, odd):
        return None
    return "utf_16_le" if odd > even else "utf_16_be"


def find_encoding(texts: Iterable[bytes]) -> Found:
    """In which encoding those of `texts` are that do not show it themselves. The same texts give the same answer.

    Readings are those of encodings in which MOST_READABLE of the lines can be read, and in which charset-normalizer finds a
    mess of at most MOST_MESS. By its letters one of them has to be SURE bits likelier than any that reads otherwise: 10 bits
    are a thousand to one.
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
    """The beginnings of those that do not show their encoding, as far as SAMPLE_BYTES go."""
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
    """Whole characters of any encoding but UTF-16: in none does a later byte of a character look like one of these."""
    if len(text) <= LONGEST_TEXT:
        return text
    end = max(text.rfind(mark, 0, LONGEST_TEXT) for mark in (b"\n", b" ", b",", b'"'))
    return text[: end + end % 2 if end > 0 else LONGEST_TEXT]


@dataclass(frozen=True, slots=True)
class _Reading:
    """The sample in one encoding."""

    encoding: str
    text: str
    bits: float


def _readings(pieces: Sequence[bytes], between: bytes, encodings: Sequence[str]) -> list[_Reading]:
    """What encodings that can read nearly all of the pieces, and without a mess, make of those that all of them can read."""
    readable = {encoding: [_reads(piece, encoding) for piece in pieces] for encoding in encodings}
    able = [encoding for encoding in encodings if sum(readable[encoding]) >= MOST_READABLE * len(pieces)]
    data = between.join(piece for number, piece in enumerate(pieces) if all(readable[name][number] for name in able))
    texts = {name: data.decode(name) for name in able if data and not _is_mess(data, name)}
    return [_Reading(name, text, bits(text, name)) for name, text in texts.items()]


def _is_mess(data: bytes, encoding: str) -> bool:
    from charset_normalizer import from_bytes

    # One encoding at a time: of similar ones it leaves out those that come after one that is a mess.
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
