"""tools/packing/layouts/table_lines.py: lines of tables, and what of them JSON can say."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
from collections import deque
from functools import partial
from typing import Any

import pytest
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from tools.packing.archives.safety import SURELY_HARMLESS
from tools.packing.layouts import table_lines as module
from tools.packing.layouts.table_lines import (
    TableDecoder,
    csv_rows,
    decode_object,
    first_line,
    json_lines,
    representable,
    stem_of,
    table_lines,
    text_lines,
)


def test_lines() -> None:
    """Numbered from 1, without blank ones and ends of lines; what is no text is None, and the last line needs no end."""
    chinese = SENTENCES["zh-CN"] * 2
    data = "a\r\n\n b\u2028c \n".encode() + b"\xff\xff\n" + "\n".join(chinese).encode("gb18030")
    found = list(text_lines("t.txt", lambda _: io.BytesIO(data)))
    assert found == [(1, "a"), (3, " b\u2028c "), (4, None), *enumerate(chinese, 5)]
    assert first_line("t.txt", lambda _: io.BytesIO(b"\n\nx\ny")) == "x"
    assert first_line("t.txt", lambda _: io.BytesIO(b"")) == ""


@pytest.mark.parametrize(
    ("language", "encoding"),
    [("ja", "cp932"), ("ja", "euc_jp"), ("zh-CN", "gb18030"), ("zh-TW", "big5"), ("ko", "cp949"), ("ru", "cp1251")],
)
def test_the_encoding_is_that_of_all_lines(language: str, encoding: str) -> None:
    """Of all tables together, so that a short one is read, too; beside lines that are UTF-8; or the one that is said."""
    sentences = SENTENCES[language]
    lines = [f"id{number}\t{sentence}" for number, sentence in enumerate(sentences)]
    tables = {"a": "name\ttext\nüber\n".encode(), "b": "\n".join(lines).encode(encoding), "c": lines[0].encode(encoding)}
    tables["d"] = ("file_name,text\n" + "".join(f'{line[:3]},"{line[4:]}\n"\n' for line in lines)).encode(encoding)
    tables["e"] = "\n".join(json.dumps({"text": one}, ensure_ascii=False) for one in sentences).encode(encoding)

    def open_table(name: str) -> io.BytesIO:
        return io.BytesIO(tables[name])

    for decoder in (TableDecoder(open_table, "abcde"), TableDecoder(open_table, "b", encoding)):
        assert [line for _, line in text_lines("b", open_table, decoder)] == lines
        assert [line for _, line in text_lines("c", open_table, decoder)] == lines[:1]
        rows = [row for _, row in csv_rows("d", open_table, decoder)]
        assert rows[1:] == [[line[:3], line[4:] + "\n"] for line in lines]
        assert [row for _, row in json_lines("e", open_table, decoder)] == [{"text": one} for one in sentences]
    assert [line for _, line in text_lines("b", open_table)] == lines
    together = TableDecoder(open_table, "abcde")
    assert [line for _, line in text_lines("a", open_table, together)] == ["name\ttext", "über"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_lines_whose_ends_are_wide(encoding: str) -> None:
    """UTF-16 and UTF-32 by their marks, or where a person says it, in gzip too; cut ones are one error."""
    marked = encoding in {"utf-16", "utf-32"}
    data = "a,b\r\n\r\n今日,\u0a0d\r\n".encode(encoding)
    tables = {"t.csv": data, "t.csv.gz": gzip.compress(data)}

    def open_table(name: str) -> io.BytesIO:
        return io.BytesIO(tables[name])

    decoder = None if marked else TableDecoder(open_table, (), encoding)
    for name in tables:
        assert list(text_lines(name, open_table, decoder)) == [(1, "a,b"), (3, "今日,\u0a0d")]
        assert list(csv_rows(name, open_table, decoder)) == [(1, ["a", "b"]), (3, ["今日", "\u0a0d"])]
        assert first_line(name, open_table, decoder) == "a,b"
    tables["t.csv"] = data[:-1]
    with pytest.raises(UsageError, match=r"t\.csv: no utf.*text: .*write it again if it was cut"):
        list(text_lines("t.csv", open_table, decoder))


def test_a_late_line_in_another_encoding() -> None:
    """However many are UTF-8 before it, and whatever is wrong with other tables."""
    japanese = "\n".join(SENTENCES["ja"]).encode("cp932")
    tables = {"a.gz": b"no gzip", "b": "über\n".encode() * 70_000 + japanese}

    def open_table(name: str) -> io.BytesIO:
        return io.BytesIO(tables[name])

    found = [line for _, line in text_lines("b", open_table, TableDecoder(open_table, tables))]
    assert tuple(found[-len(SENTENCES["ja"]) :]) == SENTENCES["ja"]


def test_compressed_lines() -> None:
    """By the name's end; damage is one error."""
    data = gzip.compress(b"a\nb\n")
    assert list(table_lines("t.jsonl.GZ", lambda _: io.BytesIO(data))) == [(1, b"a"), (2, b"b")]
    for broken in (data[:-5], b"plain", data[:12] + b"\xff" + data[13:]):
        with pytest.raises(UsageError, match=r"t\.gz: the gzip data is cut or damaged"):
            list(table_lines("t.gz", lambda _, broken=broken: io.BytesIO(broken)))  # type: ignore[misc]


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of it is held than any table has in a line."""
    monkeypatch.setattr(module, "LONGEST_LINE", 100)
    with pytest.raises(UsageError, match=r"t\.tsv: line 2: longer than 100 bytes"):
        list(table_lines("t.tsv", lambda _: io.BytesIO(b"a\n" + b"x" * 101)))


@pytest.mark.slow
def test_a_packed_table_that_is_a_bomb() -> None:
    """Lines of nothing, by the gigabyte, are refused before they fill the memory."""
    data = gzip.compress((b"x" * 9999 + b"\n") * (SURELY_HARMLESS // 9000), 9)
    with pytest.raises(UsageError, match=r"t\.jsonl\.gz: refused: .* look like a bomb"):
        deque(table_lines("t.jsonl.gz", lambda _: io.BytesIO(data)), maxlen=0)


def test_fields_between_commas() -> None:
    """Quoted ones may hold commas, quotation marks and ends of lines; the number is that of the last line."""
    data = b'a,b\n"1,\n""x""",2\n\n3,\n'
    assert list(csv_rows("t.csv", lambda _: io.BytesIO(data))) == [(1, ["a", "b"]), (3, ['1,\n"x"', "2"]), (5, ["3", ""])]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"\x01\xff\x81,3", "expected text: "),
        (b'"x" y,3', "expected fields between commas: "),
        (b'2,"never ends', "expected fields between commas: "),
        (b"x" * 200_000, "expected fields between commas: field larger than"),
    ],
)
def test_a_bad_line_between_commas_is_one_bad_line(bad: bytes, words: str) -> None:
    """It is given with its number; whatever it is, the rows around it are there, those over several lines too."""
    more = [b"9,%d" % number for number in range(20)]
    data = b"\n".join([b"1,a", bad, b'2,"b', b'c"', b"3,d", *more, bad])
    rows = list(csv_rows("t.csv", lambda _: io.BytesIO(data)))
    good = [(number, row) for number, row in rows if isinstance(row, list)]
    assert good == [(1, ["1", "a"]), (4, ["2", "b\nc"]), (5, ["3", "d"]), *((6 + n, ["9", str(n)]) for n in range(20))]
    faults = [(number, fault) for number, fault in rows if isinstance(fault, str)]
    assert [number for number, _ in faults] == [2, 26]
    assert all(fault.startswith(words) for _, fault in faults)


def test_a_bad_line_within_quotes_costs_its_row() -> None:
    """The number is that of the line."""
    rows = list(csv_rows("t.csv", lambda _: io.BytesIO(b'1,"a\n\x01\xff\x81\nb"\n2,c\n')))
    assert [number for number, _ in rows] == [2, 4]
    assert rows[1][1] == ["2", "c"]


def test_objects_as_python_writes_them() -> None:
    """NaN and raw control characters are taken; what is no object is told in words."""
    assert decode_object('{"a": "x\ty"}') == {"a": "x\ty"}
    assert math.isnan(decode_object('{"a": NaN}')["a"])
    for text in ("[]", "", "{", '{"a": 1} x', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"):
        with pytest.raises(ValueError, match=r"\w"):
            decode_object(text)
    rows = list(json_lines("t.jsonl", lambda _: io.BytesIO(b'{"a": 1}\n[]\n\x01\xff\x81\n')))
    assert rows[0] == (1, {"a": 1})
    assert [isinstance(row, str) for _, row in rows] == [False, True, True]


def test_what_json_cannot_say() -> None:
    """It is made into what it can: nothing that a row holds stops its clip."""
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    found = representable(
        {"a": float("nan"), "b": "\ud800x", "c": 1 << 70, "d": [-1e999, True, None], "e": deep, "\udfff": 1}
    )
    assert found["a"] is None
    assert found["b"] == "\\ud800x"
    assert found["c"] == hex(1 << 70)
    assert found["d"] == [None, True, None]
    assert found["\\udfff"] == 1
    assert json.dumps(found).count("[") < 60


def test_stems() -> None:
    """As they stand in the tree, whatever way the table writes the path."""
    for path in ("x/1.wav", "./x/1.FLAC", "y/../x/1.mp3", "x\\1.wav", "x/1"):
        assert stem_of("d", path) == "d/x/1"
    assert stem_of("", "1.5 x.wav") == "1.5 x"
    assert stem_of("d", "../1.wav") == "1"
    assert stem_of("d", "/abs/1.wav") == "/abs/1"


def test_any_bytes_are_rows_or_one_error() -> None:
    """Of lines, of fields and of objects."""
    chance = random.Random(11)
    for _ in range(400):
        data = bytes(chance.choice(b'a,"\n\r\t{}[]:\\\xff\xfe\x00\xe4') for _ in range(chance.randrange(40)))
        for read in (table_lines, text_lines, csv_rows, json_lines):
            try:
                list(read(chance.choice(("t", "t.gz")), partial(lambda _, data: io.BytesIO(data), data=data)))
            except UsageError as error:
                assert "\n" not in str(error)  # noqa: PT017 (any of many may raise)
