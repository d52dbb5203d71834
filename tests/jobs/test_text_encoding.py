"""jobs/text_encoding.py: texts in the encodings of data sets come out right, or are no texts; never wrong characters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import pytest
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from jobs import text_encoding
from jobs.text_encoding import TextDecoder, check_encoding, decode_legacy, decode_text, find_encoding, wide_encoding

ENCODED = [
    ("ja", "shift_jis", "cp932"),
    ("ja", "euc_jp", "euc_jis_2004"),
    ("ko", "euc_kr", "cp949"),
    ("zh-TW", "big5", "big5"),
    ("zh-CN", "gb18030", "gb18030"),
    ("zh-TW", "gb18030", "gb18030"),
    ("fr", "latin-1", "cp1252"),
    ("fr", "cp1252", "cp1252"),
    ("de", "latin-1", "cp1252"),
    ("es", "cp1252", "cp1252"),
    ("ru", "cp1251", "cp1251"),
    ("ru", "koi8-r", "koi8_r"),
    ("pl", "cp1250", "cp1250"),
    ("ja", "utf-16-le", "utf_16_le"),
    ("ko", "utf-16-be", "utf_16_be"),
    ("zh-CN", "utf-16-le", "utf_16_le"),
]


def decoded(texts: Sequence[bytes], encoding: str = "auto") -> list[str]:
    decoder = TextDecoder(encoding, lambda: texts)
    return [decoder.decode(text) for text in texts]


@pytest.mark.parametrize(("language", "encoding", "found"), ENCODED)
def test_sentences_of_a_source(language: str, encoding: str, found: str) -> None:
    """Half a dozen sentences, one per text, are enough; Shift-JIS once came out as wrong Chinese characters."""
    sentences = SENTENCES[language]
    texts = [sentence.encode(encoding) for sentence in sentences]
    assert decoded(texts) == list(sentences)
    assert find_encoding(texts).encoding == found


@pytest.mark.parametrize(("language", "encoding", "found"), ENCODED)
def test_json_of_a_source(language: str, encoding: str, found: str) -> None:
    """The same inside JSON, which is mostly ASCII."""
    texts = [f'{{"text": "{sentence}", "speaker": 7}}' for sentence in SENTENCES[language]]
    assert decoded([text.encode(encoding) for text in texts]) == texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "iso2022_jp"])
def test_texts_that_show_it_themselves(encoding: str) -> None:
    """A byte order mark, or what no other encoding has, needs no company, and no look at it."""

    def nobody() -> Sequence[bytes]:
        raise AssertionError

    for sentence in SENTENCES["ja"]:
        assert TextDecoder("auto", nobody).decode(sentence.encode(encoding)) == sentence


@pytest.mark.parametrize("text", ["hello", "Grüße", "привет мир", '{"text": "今天天气很好"}', "とてもよい。"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(text: str, encoding: str) -> None:
    """Where its bytes could be UTF-8 too, with a control in every second place, they are not."""
    assert decode_text(text.encode(encoding)) == text


def test_utf8_with_controls_stays_utf8() -> None:
    """A few control characters do not make UTF-16 of a text; surrogates that were written one by one are joined."""
    for text in ("a\x00b", "pad\x00\x00", '{"text": "a\x01b"}', "tab\there"):
        assert decode_text(text.encode()) == text
    assert decode_text("😀".encode("utf-16", "surrogatepass").decode("utf-16").encode()) == "😀"
    assert decode_text(b"\xed\xa0\xbd\xed\xb8\x80 \xed\xa0\xbd!") == "😀 \ud83d!"


def test_texts_in_utf8_among_others() -> None:
    """Each text that is UTF-8 is; the others are told from one another alone."""
    texts = [sentence.encode("cp932") for sentence in SENTENCES["ja"]]
    mixed = [*texts[:3], "読みます é".encode(), *texts[3:]]
    assert decoded(mixed) == [*SENTENCES["ja"][:3], "読みます é", *SENTENCES["ja"][3:]]


def test_a_damaged_text_costs_only_itself() -> None:
    """One of many that does not fit the encoding of all is named; the others are read."""
    texts = [sentence.encode("cp932") for sentence in SENTENCES["ja"] * 3]
    texts[4] = texts[4][:-1]
    decoder = TextDecoder("auto", lambda: texts)
    with pytest.raises(UnicodeDecodeError) as caught:
        decoder.decode(texts[4])
    assert caught.value.reason == "neither UTF-8 nor cp932, as the others are"
    assert decoder.decode(texts[5]) == SENTENCES["ja"][5]
    assert decoder.found == "cp932"


@pytest.mark.parametrize(
    "texts",
    [
        [b"\xff\xff"],
        ["très".encode("latin-1")],
        ["été".encode("mac_roman")],
        [bytes(random.Random(1).choices(range(128, 256), k=400))],
        [text.encode("cp932") for text in SENTENCES["ja"][:2]] + [text.encode("cp949") for text in SENTENCES["ko"][:2]],
    ],
)
def test_what_is_not_sure_is_no_text(texts: list[bytes]) -> None:
    """Too few letters, noise, and two encodings side by side: an error that says what to do, and no characters."""
    with pytest.raises(UnicodeDecodeError) as caught:
        decoded(texts)
    assert "say it with --text-encoding" in caught.value.reason


@pytest.mark.parametrize(
    ("few", "most"),
    [(("ja", "cp932"), ("ko", "cp949")), (("ja", "cp932"), ("zh-CN", "gb18030")), (("ko", "cp949"), ("ja", "cp932"))],
)
def test_one_text_of_another_encoding(few: tuple[str, str], most: tuple[str, str]) -> None:
    """It fits the encoding of the others, but says nothing that anybody would write: it is named, and they are read."""
    stranger = SENTENCES[few[0]][0].encode(few[1])
    texts = [stranger, *(sentence.encode(most[1]) for sentence in SENTENCES[most[0]])]
    decoder = TextDecoder("auto", lambda: texts)
    with pytest.raises(UnicodeDecodeError) as caught:
        decoder.decode(stranger)
    assert f"{most[1]}, as the others are" in caught.value.reason
    assert [decoder.decode(text) for text in texts[1:]] == list(SENTENCES[most[0]])


@pytest.mark.parametrize("text", ["第一句", "你好 语音 é", "带变量语音"])
def test_short_chinese_stays_chinese(text: str) -> None:
    """What was read right before there was a choice is still read, alone."""
    assert decode_text(text.encode("gb18030")) == text == decode_legacy(text.encode("gb18030"))


def test_the_same_texts_give_the_same_answer_whichever_asks_first() -> None:
    """So that a run that goes on in the middle of a tar reads it as one that did not stop."""
    texts = [sentence.encode("euc_kr") for sentence in SENTENCES["ko"]]
    decoder = TextDecoder("auto", lambda: texts)
    assert decoder.decode(texts[-1]) == SENTENCES["ko"][-1]
    assert decoder.decode(texts[0]) == SENTENCES["ko"][0]


def test_the_look_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after so many bytes that are no UTF-8, and after so many texts; and there is one."""
    looked = 0

    def texts() -> Sequence[bytes]:
        nonlocal looked
        looked += 1
        return [sentence.encode("cp932") for sentence in SENTENCES["ja"] * 1000]

    monkeypatch.setattr(text_encoding, "SAMPLE_BYTES", 200)
    decoder = TextDecoder("auto", texts)
    for sentence in SENTENCES["ja"]:
        assert decoder.decode(sentence.encode("cp932")) == sentence
    assert looked == 1
    monkeypatch.setattr(text_encoding, "MOST_TEXTS", 10)
    late = [b"ascii"] * 10 + [SENTENCES["ja"][0].encode("cp932")]
    with pytest.raises(UnicodeDecodeError, match="in no encoding that is known"):
        TextDecoder("auto", lambda: late).decode(late[-1])


def test_one_long_text() -> None:
    """A table is a text of many lines; only its beginning is looked at, and all of it is read."""
    text = "\n".join(f"{number}|{sentence}" for number, sentence in enumerate(SENTENCES["ja"] * 500))
    assert decode_text(text.encode("cp932")) == text
    assert decode_text(text.replace("\n", " ").encode("cp932")) == text.replace("\n", " ")


def test_what_a_person_says_counts() -> None:
    """Whatever the bytes look like, but for a byte order mark; what does not fit is named."""
    assert decode_text("联通".encode("gbk"), "gb18030") == "联通"
    assert decode_text("très".encode("latin-1"), "cp1252") == "très"
    assert decode_text("é".encode("utf-8-sig"), "cp932") == "é"
    with pytest.raises(UnicodeDecodeError) as caught:
        decode_text("é".encode("latin-1"), "utf-8")
    assert caught.value.reason == "no utf-8 text, which --text-encoding says it is"


def test_names_of_encodings() -> None:
    """As Python knows them, in any spelling, the wider one where a name is used for it; what is none is refused."""
    names = {
        "AUTO": "auto",
        "Shift-JIS": "cp932",
        "gbk": "gb18030",
        "EUC-KR": "cp949",
        "latin1": "iso8859-1",
        "utf16": "utf-16",
    }
    assert {name: check_encoding(name) for name in names} == names
    for wrong in ("klingon", "", "rot13", "hex", "unicode_escape", "punycode", "a\0b"):
        with pytest.raises(UsageError, match="expected auto, or an encoding"):
            check_encoding(wrong)


def test_files_whose_newlines_are_wide() -> None:
    """Lines of UTF-16 and UTF-32 cannot be found by their bytes."""
    assert wide_encoding('{"a"'.encode("utf-16")[:4]) == "utf_16"
    assert wide_encoding('{"a"'.encode("utf-16-le")[:4]) == "utf_16_le"
    assert wide_encoding('{"a"'.encode("utf-32")[:4]) == "utf_32"
    assert wide_encoding("今天".encode("utf-16-le")[:4], "utf-16-le") == "utf-16-le"
    for text in (b"", b"{", b'{"a"', "é{".encode("utf-8-sig")):
        assert wide_encoding(text[:4]) is None
    assert wide_encoding(b'{"a"', "cp932") is None


@pytest.mark.slow
def test_any_bytes_are_a_text_or_an_error() -> None:
    """Two thousand sources of random bytes, cut sentences and mixtures, seeded: nothing else is raised, nothing hangs."""
    rng = random.Random(7)
    encodings = ("cp932", "euc_kr", "big5", "gb18030", "cp1252", "utf-16-le", "utf-8", "utf-16", "cp1251", "iso2022_jp")
    sentences = [sentence for some in SENTENCES.values() for sentence in some]
    for _ in range(2000):
        texts = []
        for _ in range(rng.randrange(1, 4)):
            data = bytearray(rng.choice(sentences).encode(rng.choice(encodings), "replace"))
            for _ in range(rng.choice((0, 0, 1, 5))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            texts.append(bytes(data[: rng.randrange(len(data) + 1)]))
        for text in texts:
            with suppress(UnicodeDecodeError):
                TextDecoder("auto", partial(tuple, texts)).decode(text)


@pytest.mark.slow
def test_random_tars_of_sentences_are_never_wrong() -> None:
    """Of 300 sources of 20 sentences in one encoding, seeded, none comes out wrong, and nearly all come out."""
    rng = random.Random(3)
    right = 0
    for _ in range(300):
        language, encoding, _ = rng.choice(ENCODED)
        sentences = [rng.choice(SENTENCES[language]) for _ in range(20)]
        try:
            assert decoded([sentence.encode(encoding) for sentence in sentences]) == sentences
            right += 1
        except UnicodeDecodeError:
            pass
    assert right >= 295
