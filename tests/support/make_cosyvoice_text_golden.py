"""Run upstream's two tokenizers on the tiny byte pairs and store what they make of sentences.

From the root of the repository, in its virtual environment:

    PYTHONPATH=tests python -m support.make_cosyvoice_text_golden /path/to/CosyVoice

Made with github.com/FunAudioLLM/CosyVoice at ace7c47f41bbd303aa6bf1ea80e6f9fbd595cd40, openai-whisper 20250625 and
tiktoken 0.14.0. Both modules run unmodified; only the folder in which they look for their byte pairs is another.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from support.tiny_cosyvoice_text import SENTENCES, read_sentences, write_tiktoken

LANGUAGES = {"whisper": (99, 100), "cosyvoice": (100, 105)}


def encode(sentences: list[str], module: ModuleType, name: str, languages: int) -> list[list[int]]:
    """Each sentence as upstream's frontend tokenizes it, with the tiny byte pairs in the place of the real ones."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiktoken(Path(folder, "assets", name))
        module.__file__ = str(Path(folder, "tokenizer.py"))
        tokenizer = module.get_tokenizer(multilingual=True, num_languages=languages, language="en", task="transcribe")
        return [tokenizer.encode(text, allowed_special="all") for text in sentences]


def main() -> None:
    import whisper.tokenizer

    sys.path.insert(0, sys.argv[1])
    import cosyvoice.tokenizer.tokenizer

    sentences = read_sentences()
    modules = {
        "whisper": (whisper.tokenizer, "multilingual.tiktoken"),
        "cosyvoice": (cosyvoice.tokenizer.tokenizer, "multilingual_zh_ja_yue_char_del.tiktoken"),
    }
    with tempfile.TemporaryDirectory() as folder:
        digest = hashlib.sha256(write_tiktoken(Path(folder, "pairs")).read_bytes()).hexdigest()
    golden = {
        "made_with": {package: version(package) for package in ("openai-whisper", "tiktoken")},
        "tiktoken_sha256": digest,
        "tokens": {
            f"{name}-{languages}": encode(sentences, *modules[name], languages)
            for name, counts in LANGUAGES.items()
            for languages in counts
        },
    }
    text = json.dumps(golden, separators=(",", ":")).replace("],[", "],\n[")
    (SENTENCES.parent / "cosyvoice_text.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
