"""The two text vocabularies of CosyVoice 1: byte pairs from a .tiktoken file, followed by special tokens.

`whisper` is OpenAI's multilingual one (whisper/tokenizer.py of openai-whisper), used by CosyVoice-300M, -SFT and -Instruct;
`cosyvoice` is CosyVoice's own (cosyvoice/tokenizer/tokenizer.py), used by CosyVoice-300M-25Hz. They share the pattern for
splitting text, and differ in byte pairs and special tokens. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audio_tokenizers.errors import ModelFilesError

if TYPE_CHECKING:
    import tiktoken

__all__ = ["ASSETS", "Vocabulary", "VocabularyName", "most_languages", "read_vocabulary"]

VocabularyName = Literal["whisper", "cosyvoice"]

ASSETS: Mapping[VocabularyName, str] = {
    "whisper": "multilingual.tiktoken",
    "cosyvoice": "multilingual_zh_ja_yue_char_del.tiktoken",
}
"""Upstream's names of the byte pairs."""

# GPT-2's pattern: contractions, words, numbers and the rest, each with the preceding space.
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

WHISPER_CODES = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te fa
lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn
mt sa lb my bo tl mg as tt haw ln ha ba jw su yue
"""
LANGUAGES: Mapping[VocabularyName, tuple[str, ...]] = {
    "whisper": tuple(WHISPER_CODES.split()),
    "cosyvoice": (*WHISPER_CODES.split(), "minnan", "wuyu", "dialect", "zh/en", "en/zh"),
}
"""In token order."""

EVENTS = ("ASR", "AED", "SER", *(f"{end}{word}" for word in ("Speech", "BGM", "Laughter", "Applause") for end in ("", "/")))
EMOTIONS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL")
TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
RESERVED = [f"SPECIAL_TOKEN_{number}" for number in range(1, 31)]
VOCAL = [f"TTS/{word}" for word in ("B", "O", "Q", "A", "CO", "CL", "H", *(f"SP{number:02d}" for number in range(1, 14)))]
TIMESTAMPS = [f"{number * 0.02:.2f}" for number in range(1501)]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Byte pairs and special tokens with their ids."""

    name: VocabularyName
    pairs: Mapping[bytes, int]
    special: Mapping[str, int]

    @property
    def size(self) -> int:
        """Number of tokens; ids count from 0."""
        return len(self.pairs) + len(self.special)

    def encoding(self) -> tiktoken.Encoding:
        """The vocabulary as a tiktoken encoding."""
        import tiktoken

        return tiktoken.Encoding(
            name=self.name,
            explicit_n_vocab=self.size,
            pat_str=PATTERN,
            mergeable_ranks=dict(self.pairs),
            special_tokens=dict(self.special),
        )


def most_languages(name: VocabularyName) -> int:
    """Maximum number of language tokens: 100 or 105."""
    return len(LANGUAGES[name])


def read_vocabulary(path: Path, name: VocabularyName, languages: int) -> Vocabulary:
    """The vocabulary `name` with its first `languages` language tokens, and the byte pairs in `path`.

    Raises ModelFilesError unless `path` has each id from 0 on exactly once, and every single byte.
    """
    pairs: dict[bytes, int] = {}
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            text, rank = line.split()
            # Both files have one empty token, spelled as bare padding.
            pairs[b"" if text == b"=" else base64.b64decode(text, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ModelFilesError(
                f"{path}, line {number}: expected a base64 token and its number, found {line[:40]!r}: a .tiktoken file?"
            ) from None
    if set(pairs.values()) != set(range(len(pairs))) or len(pairs) != number:
        raise ModelFilesError(
            f"{path}: expected tokens numbered from 0, each once; found gaps or doubles: download it again"
        )
    if missing := [byte for byte in range(256) if bytes([byte]) not in pairs]:
        raise ModelFilesError(
            f"{path}: expected all 256 single bytes as tokens, found {len(missing)} missing: is it cut, or another model's?"
        )
    return Vocabulary(name, pairs, _special_tokens(name, languages, len(pairs)))


def _special_tokens(name: VocabularyName, languages: int, first: int) -> dict[str, int]:
    """Special token -> id, from `first` on."""
    own = name == "cosyvoice"
    words = [
        "endoftext",
        "startoftranscript",
        *LANGUAGES[name][:languages],
        *((*EVENTS, *EMOTIONS) if own else ()),
        *TASKS,
        *((*RESERVED, *VOCAL) if own else ()),
        *TIMESTAMPS,
    ]
    return {f"<|{word}|>": number for number, word in enumerate(words, first)}
