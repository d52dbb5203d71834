from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from support.tiny_cosyvoice_text import SENTENCES, SPECIAL_TOKENS, read_sentences, write_tiktoken

from audio_tokenizers.cosyvoice_text.vocabulary import ASSETS, VocabularyName, most_languages, read_vocabulary
from audio_tokenizers.errors import ModelFilesError

GOLDEN = json.loads((SENTENCES.parent / "cosyvoice_text.json").read_text())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_tiktoken(tmp_path / "tiny.tiktoken")


@pytest.mark.parametrize("case", sorted(GOLDEN["tokens"]))
def test_tokens_are_those_of_upstreams_own_tokenizers(pairs: Path, case: str) -> None:
    """Each sentence, special tokens included, gives the numbers that openai-whisper's and CosyVoice's code gave."""
    assert hashlib.sha256(pairs.read_bytes()).hexdigest() == GOLDEN["tiktoken_sha256"], "the tiny byte pairs have changed"
    name, languages = case.split("-")
    encoding = read_vocabulary(pairs, cast("VocabularyName", name), int(languages)).encoding()
    sentences = read_sentences()
    assert len(sentences) == len(GOLDEN["tokens"][case]) >= 60
    for sentence, expected in zip(sentences, GOLDEN["tokens"][case], strict=True):
        assert encoding.encode(sentence, allowed_special="all") == expected, sentence
    numbers = {number for tokens in GOLDEN["tokens"][case] for number in tokens}
    assert len([number for number in numbers if 256 <= number < 457]) > 30, "hardly any pair was merged"
    assert len([number for number in numbers if number >= 457]) > 10, "hardly any special token was tried"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # openai-whisper leaves its file open
def test_the_whisper_vocabulary_is_openai_whispers_own() -> None:
    """With the byte pairs that openai-whisper installs it has each number of each token, 51866 with 100 languages."""
    import whisper.tokenizer

    path = Path(whisper.tokenizer.__file__).parent / "assets" / ASSETS["whisper"]
    theirs = whisper.tokenizer.get_tokenizer(multilingual=True, num_languages=100, language="en", task="transcribe").encoding
    ours = read_vocabulary(path, "whisper", 100)
    assert ours.size == theirs.n_vocab == 51866
    assert dict(ours.special) == theirs._special_tokens
    assert dict(ours.pairs) == theirs._mergeable_ranks
    encoding = ours.encoding()
    assert encoding._pat_str == theirs._pat_str
    for sentence in read_sentences():
        assert encoding.encode(sentence, allowed_special="all") == theirs.encode(sentence, allowed_special="all")


def test_sizes_are_those_of_the_published_embeddings(pairs: Path) -> None:
    """51866 rows are Whisper's 50257 pairs and 1609 more; 60515 are CosyVoice's 58836 and its special tokens for 105."""
    for name in ("whisper", "cosyvoice"):
        vocabulary = read_vocabulary(pairs, name, 100)
        assert len(vocabulary.special) == SPECIAL_TOKENS[name]
        assert sorted(vocabulary.special.values()) == list(range(len(vocabulary.pairs), vocabulary.size))
    assert 50257 + SPECIAL_TOKENS["whisper"] == 51866
    assert 58836 + SPECIAL_TOKENS["cosyvoice"] + most_languages("cosyvoice") - 100 == 60515
    assert len(read_vocabulary(pairs, "whisper", 105).special) == SPECIAL_TOKENS["whisper"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [b"<html>"], r"line 1: expected a base64 token"),
        (lambda lines: [*lines, b""], r"line 458: expected a base64 token"),
        (lambda lines: [*lines[:300], b"@@@@ 300"], r"line 301: expected a base64 token"),
        (lambda lines: [*lines[:300], *lines[301:]], r"gaps or doubles"),
        (lambda lines: [*lines, lines[300].split()[0] + b" 457"], r"gaps or doubles"),
        (lambda lines: lines[:200], r"56 missing"),
        (lambda lines: [b"= 0"], r"256 missing"),
    ],
)
def test_a_cut_or_foreign_file_is_refused(pairs: Path, damage: Callable[[list[bytes]], list[bytes]], message: str) -> None:
    """A half copy would tokenize all the same, into other numbers."""
    pairs.write_bytes(b"\n".join(damage(pairs.read_bytes().splitlines())) + b"\n")
    with pytest.raises(ModelFilesError, match=message) as caught:
        read_vocabulary(pairs, "whisper", 100)
    assert str(pairs) in str(caught.value)


def test_reading_it_imports_neither_torch_nor_tiktoken(pairs: Path) -> None:
    """Planning on a login node checks the file, and has neither."""
    script = (
        "import sys, pathlib\n"
        "for name in ('torch', 'tiktoken', 'whisper'): sys.modules[name] = None\n"
        "from audio_tokenizers.cosyvoice_text.vocabulary import read_vocabulary\n"
        "print(read_vocabulary(pathlib.Path(sys.argv[1]), 'whisper', 100).size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(pairs)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "tokenizers"},
    )
    assert (done.stdout, done.returncode) == ("2066\n", 0), done.stderr
