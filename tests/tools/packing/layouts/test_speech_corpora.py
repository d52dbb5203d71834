"""tools/packing/layouts/speech_corpora.py: layouts of corpora, each from a small made copy of the real one."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest
from support.made_trees import audio_of, left_out_of, read_everywhere, read_or_refuse
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from jobs.text_rules import TextRules
from tools.packing.layouts.speech_corpora import corpus_books, is_audiofolder, kin

COLUMNS = "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
HEAD = COLUMNS.replace(" ", "\t")


def voice(number: int, sentence: str) -> str:
    return f"{'c' * 128}\tcommon_voice_en_{number}.mp3\ts{number}\t{sentence}\t\t2\t0\ttwenties\tmale\t\t\ten\t"


def tsv(*rows: str) -> str:
    return "\n".join((HEAD, *rows)) + "\n"


def common_voice() -> dict[str, bytes | str]:
    below = "cv-corpus-17.0-2024-03-15/en"
    said = {1: "One.", 2: '"Quoted," he said.', 3: "Drei\u2028Linien", 4: "Not yet", 5: "Wrong", 6: "Six"}
    rows = {number: voice(number, sentence) for number, sentence in said.items()}
    return {
        **audio_of(*(f"{below}/clips/common_voice_en_{number}.mp3" for number in (*said, 9))),
        f"{below}/validated.tsv": tsv(rows[1], rows[2], rows[3], rows[6], voice(77, "gone")),
        f"{below}/train.tsv": tsv(rows[1]),
        f"{below}/dev.tsv": tsv(rows[2]),
        f"{below}/test.tsv": tsv(rows[3]),
        f"{below}/other.tsv": tsv(rows[4], "short\trow"),
        f"{below}/invalidated.tsv": tsv(rows[5]),
        f"{below}/reported.tsv": "sentence_id\tsentence\tlocale\treason\n",
        f"{below}/clip_durations.tsv": "clip\tduration[ms]\n",
    }


def test_common_voice(tmp_path: Path) -> None:
    """A clip has the row of its split or of validated, once; what people did not approve is left out, and so said."""
    pairs, left_out = read_everywhere(tmp_path, common_voice())
    below = "cv-corpus-17.0-2024-03-15/en/clips/common_voice_en_"
    assert {name.removeprefix(below): (pair.text, pair.language) for name, pair in pairs.items()} == {
        "1": ("One.", "en"),
        "2": ('"Quoted," he said.', "en"),
        "3": ("Drei\u2028Linien", "en"),
        "6": ("Six", "en"),
    }
    assert pairs[f"{below}1"].metadata == {
        "client_id": "c" * 128,
        "sentence_id": "s1",
        "up_votes": 2,
        "down_votes": 0,
        "age": "twenties",
        "gender": "male",
        "split": "train",
    }
    assert [(pair.metadata or {}).get("split") for pair in pairs.values()] == ["train", "dev", "test", None]
    assert left_out_of(left_out) == [
        ("audio_without_text", f"{below}9.mp3"),
        ("not_validated", f"{below}4.mp3"),
        ("not_validated", f"{below}5.mp3"),
        ("text_without_audio", f"{below}77"),
        ("unreadable_text", "line 3 of cv-corpus-17.0-2024-03-15/en/other.tsv"),
    ]


def test_common_voice_of_what_nobody_has_approved(tmp_path: Path) -> None:
    """--exclude of the other tables is the way to it; the split then says what it is."""
    approved = ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv", "invalidated.tsv")
    pairs, _ = read_everywhere(tmp_path, common_voice(), *approved)
    assert [(pair.text, (pair.metadata or {})["split"]) for pair in pairs.values()] == [("Not yet", "other")]


@pytest.mark.parametrize(
    ("sentence", "text", "raw"),
    [
        ('"""Good-bye,"" said the boy."', '"Good-bye," said the boy.', '"""Good-bye,"" said the boy."'),
        ('"Good-bye."', '"Good-bye."', None),
        ('"では、危険だということですか"と彼は言った。', '"では、危険だということですか"と彼は言った。', None),
        ('"Unclosed', '"Unclosed', None),
        ('"', '"', None),
    ],
)
def test_quotation_marks_of_common_voice(tmp_path: Path, sentence: str, text: str, raw: str | None) -> None:
    """They mean nothing, also at the beginning of a sentence, but for sentences that old releases had quoted as CSV."""
    files = {**audio_of("clips/common_voice_en_1.mp3"), "validated.tsv": tsv(voice(1, sentence))}
    pairs, _ = read_everywhere(tmp_path, files)
    pair = pairs["clips/common_voice_en_1"]
    assert (pair.text, (pair.metadata or {}).get("raw_text")) == (text, raw)


def test_tables_that_are_only_called_so(tmp_path: Path) -> None:
    """What has other columns, other lines or none is named as no such table, and costs nothing else."""
    files = {
        **audio_of("clips/a.wav", "wav/b.wav", "audio/c.wav", "d.wav"),
        "train.tsv": "id\ttext\n1\tx\n",
        "content.txt": "Contents of this data set\n",
        "transcripts.txt": "Transcripts are to be had from us\n",
        "metadata.jsonl": '{"speaker": 1}\n',
        "d.txt": "text of d",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {pair.text for pair in pairs.values()} == {"text of d"}
    assert left_out_of(left_out) == [
        ("audio_without_text", "audio/c.wav"),
        ("audio_without_text", "clips/a.wav"),
        ("audio_without_text", "wav/b.wav"),
        ("unreadable_text", "content.txt"),
        ("unreadable_text", "metadata.jsonl"),
        ("unreadable_text", "train.tsv"),
        ("unreadable_text", "transcripts.txt"),
    ]


def test_audiofolder_with_csv(tmp_path: Path) -> None:
    """Fields may be quoted, with commas and ends of lines in them; each split's folder has its own table."""
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerows(
        [
            ["file_name", "transcription", "speaker_id", "lang"],
            ["1.wav", 'two\nlines, "said"', "7", "en"],
            ["a/2.mp3", "x", "", ""],
        ]
    )
    files = {
        **audio_of("data/train/1.wav", "data/train/a/2.mp3", "data/test/3.wav", "data/test/4.wav"),
        "data/train/metadata.csv": "\ufeff" + rows.getvalue(),
        "data/test/metadata.csv": "audio_file_name,text\n3.wav,three\n9.wav,nine\n3.wav,again\nbad\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name: (pair.text, pair.language, pair.metadata) for name, pair in pairs.items()} == {
        "data/train/1": ('two\nlines, "said"', "en", {"speaker_id": "7"}),
        "data/train/a/2": ("x", None, None),
        "data/test/3": ("three", None, None),
    }
    assert left_out_of(left_out) == [
        ("audio_without_text", "data/test/4.wav"),
        ("duplicate", "data/test/3"),
        ("text_without_audio", "data/test/9"),
        ("unreadable_text", "line 5 of data/test/metadata.csv"),
    ]


def test_audiofolder_with_jsonl(tmp_path: Path) -> None:
    """One table for both splits, in JSON as Python writes it; a line that is none costs itself."""
    files = {
        **audio_of("train/1.wav", "test/2.wav", "test/3.wav"),
        "metadata.jsonl": '{"file_name": "train/1.wav", "text": "one", "snr": NaN, "n": 99999999999999999999999}\n'
        '{"file_name": "./test/2.wav", "sentence": "two \\ud83d", "locale": "de"}\n{"file_name": "test/3.wav"\n'
        '[]\n{"text": "?"}\n',
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name: (pair.text, pair.language, pair.metadata) for name, pair in pairs.items()} == {
        "train/1": (
            "one",
            None,
            {
                "snr": None,
                "n": "0x152d02c7e14af67fffff",
                "sidecar_errors": ["line 1 of metadata.jsonl: snr: NaN is no value of JSON: null"],
            },
        ),
        "test/2": ("two \\ud83d", "de", None),
    }
    assert left_out_of(left_out) == [
        ("audio_without_text", "test/3.wav"),
        ("unreadable_text", "line 3 of metadata.jsonl"),
        ("unreadable_text", "line 4 of metadata.jsonl"),
        ("unreadable_text", "line 5 of metadata.jsonl"),
    ]


def test_tables_in_other_encodings(tmp_path: Path) -> None:
    """Told from all lines; a short table beside a long one is in its encoding."""
    ids = [f"BAC009S0002W{number:04}" for number in range(6)]
    files: dict[str, bytes | str] = {**audio_of(*(f"wav/S0002/{name}.wav" for name in ids))}
    lines = [f"{name} {' '.join(said)}" for name, said in zip(ids, SENTENCES["zh-CN"], strict=True)]
    files["transcript/aishell_transcript_v0.8.txt"] = "\n".join(lines).encode("gb18030")
    pairs, left_out = read_everywhere(tmp_path, files)
    assert ([pair.text for pair in pairs.values()], left_out) == ([" ".join(said) for said in SENTENCES["zh-CN"]], [])

    files = {**audio_of(*(f"train/{number}.wav" for number in range(6)), "test/0.wav")}
    rows = [f'{number}.wav,"{said}"' for number, said in enumerate(SENTENCES["ja"])]
    files["train/metadata.csv"] = "\r\n".join(["file_name,transcription", *rows]).encode("cp932")
    files["test/metadata.csv"] = "\r\n".join(["file_name,transcription", "0.wav,はい"]).encode("cp932")
    (tmp_path / "ja").mkdir()
    pairs, left_out = read_everywhere(tmp_path / "ja", files)
    said = {"test/0": "はい"} | {f"train/{number}": said for number, said in enumerate(SENTENCES["ja"])}
    assert ({name: pair.text for name, pair in pairs.items()}, left_out) == (said, [])


def test_texts_of_kin_in_another_encoding(tmp_path: Path) -> None:
    """LibriTTS's and VCTK's texts are texts as all others: their encoding is told from all."""
    files: dict[str, bytes | str] = {}
    for number, said in enumerate(SENTENCES["de"]):
        files |= {f"{number}.wav": b"x", f"{number}.normalized.txt": said.encode("cp1252")}
        files |= {f"wav48/p225/p225_{number}.wav": b"x", f"txt/p225/p225_{number}.txt": said.encode("cp1252")}
    pairs, left_out = read_everywhere(tmp_path, files)
    assert sorted(pair.text or "" for pair in pairs.values()) == sorted(SENTENCES["de"] * 2)
    assert left_out == []


def test_a_short_table_whose_encoding_a_person_says(tmp_path: Path) -> None:
    """It alone would not tell."""
    text = "はい"
    files = {**audio_of("1.wav"), "metadata.csv": b"file_name,text\n1.wav," + text.encode("cp932")}
    with pytest.raises(UsageError, match=r"metadata\.csv: line 2: .*--text-encoding"):
        read_everywhere(tmp_path, files)
    pairs, _ = read_everywhere(tmp_path, files, texts=TextRules(encoding="cp932"))
    assert pairs["1"].text == text
    speech = {**audio_of("wavs/LJ1.wav"), "metadata.csv": b"LJ1|" + text.encode("cp932")}
    (tmp_path / "lj").mkdir()
    pairs, _ = read_everywhere(tmp_path / "lj", speech, texts=TextRules(encoding="cp932"))
    assert pairs["wavs/LJ1"].text == text


def test_the_key_of_the_text(tmp_path: Path) -> None:
    """--text-key names columns of an audiofolder; what it does not name is metadata. Common Voice has its own beside it."""
    files = {
        **audio_of("a/1.wav", "b/2.wav", "clips/3.mp3"),
        "a/metadata.csv": "file_name,text,said\n1.wav,no,one\n",
        "b/metadata.jsonl": '{"file_name": "2.wav", "text": "no", "said": "two"}\n',
        "train.tsv": "path\tsentence\n3.mp3\tthree\n",
    }
    pairs, _ = read_everywhere(tmp_path, files, texts=TextRules(keys=("said",)))
    assert {name: pair.text for name, pair in pairs.items()} == {"a/1": "one", "b/2": "two", "clips/3": "three"}
    assert pairs["a/1"].metadata == {"text": "no"}


def test_one_bad_line_of_a_table_is_one_bad_line(tmp_path: Path) -> None:
    """In quotes that are none or in bytes that are no text, be it the first after the names of the columns: named with its
    number, and the rest is there. Where all lines are bad, that is one error.
    """
    files = {
        **audio_of("1.wav", "2.wav", "3.wav", "j/1.wav", "j/2.wav", "wav/S1.wav", "train/audio/1_2_3.flac"),
        "metadata.csv": b'file_name,text\n1.wav,"one" more\n2.wav,\x01\xff\x81\n3.wav,three\n',
        "j/metadata.jsonl": b'{"file_name": "1.wav", "text": "\x01\xff\x81"}\n{"file_name": "2.wav", "text": "two"}\n',
        "content.txt": b"\x01\xff\x81\nS1.wav\t\xe5\xb9\xbf guang3\n",
        "train/transcripts.txt": b"\x01\xff\x81\n1_2_3\tlibri\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name: pair.text for name, pair in pairs.items()} == {
        "3": "three",
        "j/2": "two",
        "wav/S1": "广",
        "train/audio/1_2_3": "libri",
    }
    assert [left for left in left_out_of(left_out) if left[0] == "unreadable_text"] == [
        ("unreadable_text", "line 1 of content.txt"),
        ("unreadable_text", "line 1 of j/metadata.jsonl"),
        ("unreadable_text", "line 1 of train/transcripts.txt"),
        ("unreadable_text", "line 2 of metadata.csv"),
        ("unreadable_text", "line 3 of metadata.csv"),
    ]
    (tmp_path / "none").mkdir()
    files = {**audio_of("1.wav"), "metadata.csv": b"file_name,text\n1.wav,\x01\xff\x81\n"}
    with pytest.raises(UsageError, match=r"metadata\.csv: line 2: expected text: .*--exclude"):
        read_everywhere(tmp_path / "none", files)


def test_two_layouts_that_both_fit_are_named(tmp_path: Path) -> None:
    """Which of two tables is right is nobody's guess; --exclude says it."""
    files = {
        **audio_of("clips/1.mp3"),
        "metadata.csv": "file_name,text\nclips/1.mp3,one\n",
        "train.tsv": "path\tsentence\n1.mp3\tONE\n",
    }
    words = r"clips/1: expected one layout, found two.*Common Voice \(train\.tsv\) and metadata\.csv.*--exclude"
    with pytest.raises(UsageError, match=words):
        read_everywhere(tmp_path, files)
    pairs, _ = read_everywhere(tmp_path, files, "metadata.csv")
    assert [pair.text for pair in pairs.values()] == ["ONE"]


def test_of_two_tables_of_one_layout_the_nearer_is_taken(tmp_path: Path) -> None:
    """As the data set's own split knows better."""
    files = {
        **audio_of("train/1.wav"),
        "metadata.csv": "file_name,text\ntrain/1.wav,far\n",
        "train/metadata.csv": "file_name,text\n1.wav,near\n",
    }
    pairs, _ = read_everywhere(tmp_path, files)
    assert [pair.text for pair in pairs.values()] == ["near"]


def test_vctk(tmp_path: Path) -> None:
    """Both microphones of an utterance are clips with its text; a speaker without texts is named."""
    top = "VCTK-Corpus-0.92"
    files = {
        **audio_of(
            *(f"{top}/wav48_silence_trimmed/p225/p225_00{n}_mic{m}.flac" for n in (1, 2) for m in (1, 2)),
            f"{top}/wav48_silence_trimmed/p315/p315_001_mic1.flac",
        ),
        f"{top}/txt/p225/p225_001.txt": "Please call Stella.\n",
        f"{top}/txt/p225/p225_002.txt": "Ask her.\n",
        f"{top}/txt/p225/p225_003.txt": "No audio.\n",
        f"{top}/speaker-info.txt": "ID  AGE\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert [(pair.text, pair.text_name, pair.metadata) for pair in pairs.values()][:2] == [
        ("Please call Stella.", f"{top}/txt/p225/p225_001.txt", {"speaker": "p225", "microphone": f"mic{m}"}) for m in (1, 2)
    ]
    assert len(pairs) == 4
    assert left_out_of(left_out) == [
        ("audio_without_text", f"{top}/wav48_silence_trimmed/p315/p315_001_mic1.flac"),
        ("text_without_audio", f"{top}/speaker-info.txt"),
        ("text_without_audio", f"{top}/txt/p225/p225_003.txt"),
    ]


def test_the_first_release_of_vctk(tmp_path: Path) -> None:
    """One microphone: `wav48/p225/p225_001.wav`."""
    files = {**audio_of("wav48/p225/p225_001.wav"), "txt/p225/p225_001.txt": "Please call Stella."}
    pairs, left_out = read_everywhere(tmp_path, files)
    assert [(pair.text, pair.metadata) for pair in pairs.values()] == [("Please call Stella.", {"speaker": "p225"})]
    assert left_out == []


def test_libritts(tmp_path: Path) -> None:
    """The normalised text is what is spoken; the original stays as raw_text where it is another."""
    below = "LibriTTS/dev-clean/84/121123/84_121123_000007_00000"
    files = {
        **audio_of(f"{below}1.wav", f"{below}2.wav", f"{below}3.wav"),
        f"{below}1.normalized.txt": "Mister Smith",
        f"{below}1.original.txt": "Mr. Smith",
        f"{below}2.normalized.txt": "Same.",
        f"{below}2.original.txt": "Same.",
        f"{below}3.original.txt": "Only this",
        "LibriTTS/dev-clean/84/121123/84_121123.trans.tsv": "84_121123_000007_000001\tMr. Smith\tMister Smith\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert [(pair.text, pair.metadata) for pair in pairs.values()] == [
        ("Mister Smith", {"raw_text": "Mr. Smith"}),
        ("Same.", None),
        ("Only this", None),
    ]
    assert pairs[f"{below}1"].text_name == f"{below}1.normalized.txt"
    assert left_out == []


def test_aishell_1(tmp_path: Path) -> None:
    """One table for all splits, by the names of files."""
    files = {
        **audio_of(
            *(f"data_aishell/wav/{s}/S0002/BAC009S0002W0{n}.wav" for s, n in (("train", 122), ("dev", 123), ("test", 124)))
        ),
        "data_aishell/transcript/aishell_transcript_v0.8.txt": "\n".join(
            f"BAC009S0002W0{line}" for line in ("122 而 对 楼市", "123 政策", "999 无")
        ),
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert {name.rpartition("W")[2]: pair.text for name, pair in pairs.items()} == {"0122": "而 对 楼市", "0123": "政策"}
    assert left_out_of(left_out) == [
        ("audio_without_text", "data_aishell/wav/test/S0002/BAC009S0002W0124.wav"),
        ("text_without_audio", "BAC009S0002W0999"),
    ]


def test_aishell_3(tmp_path: Path) -> None:
    """Characters are the text, pinyin is metadata; each split has its table."""
    files = {
        **audio_of("train/wav/SSB0005/SSB00050001.wav", "test/wav/SSB0073/SSB00730005.wav"),
        "train/content.txt": "SSB00050001.wav\t广 guang3 州 zhou1 女 nv3\nnonsense\n",
        "train/label_train-set.txt": "SSB00050001|guang3 zhou1 % nv3 $|广州%女$\n",
        "test/content.txt": "SSB00730005.wav\t这儿 zher4\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert [(pair.text, pair.metadata) for pair in pairs.values()] == [
        ("这儿", {"pinyin": "zher4"}),
        ("广州女", {"pinyin": "guang3 zhou1 nv3"}),
    ]
    assert left_out_of(left_out) == [
        ("text_without_audio", "train/label_train-set.txt"),
        ("unreadable_text", "line 2 of train/content.txt"),
    ]


def test_mls(tmp_path: Path) -> None:
    """Texts by the names of files; where each was cut from is metadata, and cuts nothing."""
    below = "mls_german/train"
    files = {
        **audio_of(*(f"{below}/audio/4800/10003/4800_10003_00000{n}.flac" for n in range(3))),
        f"{below}/transcripts.txt": "4800_10003_000000\tdie sonne\n4800_10003_000001\tder mond\n",
        f"{below}/segments.txt": "4800_10003_000000\thttp://www.archive.org/x.mp3\t401.76\t417.57\n4800_10003_000001\tbroken\n",
        f"{below}/limited_supervision/9hr/handles.txt": "4800_10003_000000\n",
    }
    pairs, left_out = read_everywhere(tmp_path, files)
    assert [(pair.text, pair.metadata) for pair in pairs.values()] == [
        ("die sonne", {"cut_from": {"url": "http://www.archive.org/x.mp3", "start": 401.76, "end": 417.57}}),
        ("der mond", {"cut_from": {"url": "broken"}}),
    ]
    assert left_out_of(left_out) == [
        ("audio_without_text", f"{below}/audio/4800/10003/4800_10003_000002.flac"),
        ("text_without_audio", f"{below}/limited_supervision/9hr/handles.txt"),
    ]


def test_names_alone() -> None:
    """Which tables make which book is a pure function of their names, in any order and case."""
    names = ["a/Train.tsv", "a/dev.tsv", "b/transcript/AISHELL_transcript_v0.8.txt", "c/content.txt", "d/transcripts.txt"]
    books = [(book.layout, book.scope) for book in corpus_books(names)]
    assert books == [("Common Voice", "a/clips"), ("AISHELL-1", "b"), ("AISHELL-3", "c/wav"), ("MLS", "d/audio")]
    assert [(book.layout, book.scope) for book in corpus_books(reversed(names))] == books
    assert next(kin("x")) == ("libritts", ("x.normalized", "x.original"))
    assert list(kin("wav48/p1/p1_2_mic2"))[1:] == [("vctk", ("txt/p1/p1_2",))]
    assert [is_audiofolder(line) for line in ('\ufeff"file_name",text', "x_file_name", "LJ001-0001|a, file_name", "")] == [
        True,
        True,
        False,
        False,
    ]


PIECES = (
    "file_name",
    ",",
    "text",
    "\n",
    "\t",
    '"',
    "path",
    "sentence",
    "a.wav",
    "1_2_3",
    "{",
    "}",
    ":",
    "[",
    "\x00",
    "\udcff",
    " ",
    "广 guang3",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "table", ["metadata.csv", "metadata.jsonl", "train.tsv", "content.txt", "transcripts.txt", "segments.txt"]
)
def test_any_bytes_give_pairs_or_one_message(tmp_path: Path, table: str) -> None:
    """Whatever a table holds, there is no traceback: it is taken, left out, or refused in one line that names it."""
    chance = random.Random(table)
    heads = {"metadata.csv": "file_name,text\n", "metadata.jsonl": '{"file_name": "a.wav", "text": "x"}\n'}
    heads |= {"train.tsv": "path\tsentence\n", "content.txt": "a.wav\t广 guang3\n", "transcripts.txt": "1_2_3\tx\n"}
    for number in range(60):
        body = "".join(chance.choice(PIECES) for _ in range(chance.randrange(60)))
        content = (chance.choice(("", heads.get(table, ""))) + body).encode("utf-8", "surrogateescape")
        files = {**audio_of("a.wav", "clips/a.wav", "wav/a.wav", "audio/1_2_3.flac", "b.wav"), "b.txt": "b", table: content}
        if table == "segments.txt":
            files["transcripts.txt"] = b"1_2_3\tx\n"
        (tmp_path / str(number)).mkdir()
        pairs, message = read_or_refuse(tmp_path / str(number), files)
        assert (table in message and "\n" not in message) if message else pairs["b"].text == "b"
