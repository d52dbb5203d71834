"""A tiny random CosyVoice 1: cosyvoice.yaml and llm.pt in the published layout, and byte pairs in the format of tiktoken."""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

WIDTH = 8
SPECIAL_TOKENS = {"whisper": 1609, "cosyvoice": 1674}
"""With 100 languages."""
MERGES = 200
TOKENIZERS = {
    "whisper": "whisper.tokenizer.get_tokenizer",
    "cosyvoice": "cosyvoice.tokenizer.tokenizer.get_tokenizer",
}
SENTENCES = Path(__file__).parents[1] / "audio_tokenizers" / "golden" / "cosyvoice_text_sentences.json"
"""`corpus`, which the byte pairs are learned from, and `sentences`."""

YAML = """\
__set_seed1: !apply:random.seed [1986]
sample_rate: 22050
text_encoder_input_size: {width}
llm_input_size: 16

llm: !new:cosyvoice.llm.llm.TransformerLM
    text_encoder_input_size: !ref <text_encoder_input_size>
    llm_input_size: !ref <llm_input_size>
    text_token_size: {rows}
    speech_token_size: 32
    text_encoder: !new:cosyvoice.transformer.encoder.ConformerEncoder
        input_size: !ref <text_encoder_input_size>
        num_blocks: 1
    sampling: !name:cosyvoice.utils.common.ras_sampling
        top_p: 0.8

parquet_opener: !name:cosyvoice.dataset.processor.parquet_opener
get_tokenizer: !name:{tokenizer}
    multilingual: True
    num_languages: {languages}
    language: 'en'
    task: 'transcribe'
allowed_special: 'all'
data_pipeline: [
    !ref <parquet_opener>,
]
"""


def read_sentences() -> list[str]:
    """Texts to tokenize, those of the corpus first."""
    data = json.loads(SENTENCES.read_text(encoding="utf-8"))
    return [*data["corpus"], *data["sentences"]]


@functools.cache
def byte_pairs() -> list[bytes]:
    """The single bytes, MERGES pairs in the order of byte-pair encoding, and the empty token that upstream's files have."""
    corpus = " ".join(json.loads(SENTENCES.read_text(encoding="utf-8"))["corpus"])
    parts = [bytes([byte]) for byte in corpus.encode()]
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < 256 + MERGES:
        counts = Counter(itertools.pairwise(parts))
        # Equal counts by the bytes, so that the order is the same everywhere.
        left, right = max(counts, key=lambda pair: (counts[pair], pair))
        merged, index = [], 0
        while index < len(parts):
            joined = parts[index : index + 2] == [left, right]
            merged.append(left + right if joined else parts[index])
            index += 2 if joined else 1
        parts = merged
        if left + right not in tokens:
            tokens.append(left + right)
    return [*tokens, b""]


def write_tiktoken(path: Path) -> Path:
    """The byte pairs as lines of a base64 token and its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{base64.b64encode(token).decode() or '='} {number}\n" for number, token in enumerate(byte_pairs()))
    path.write_text("".join(lines), encoding="ascii")
    return path


def language_model(rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """What llm.pt holds, under the names that upstream's TransformerLM has."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "text_embedding.weight": (rows, WIDTH),
        "text_encoder.embed.out.0.weight": (16, WIDTH),
        "text_encoder_affine_layer.weight": (16, 16),
        "text_encoder_affine_layer.bias": (16,),
        "llm_embedding.weight": (2, 16),
        "llm.embed.out.0.weight": (16, 16),
        "llm_decoder.weight": (33, 16),
        "llm_decoder.bias": (33,),
        "speech_embedding.weight": (32, 16),
        "spk_embed_affine_layer.weight": (16, 192),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def build_cosyvoice(
    directory: Path,
    vocabulary: Literal["whisper", "cosyvoice"] = "whisper",
    *,
    languages: int = 100,
    rows: int | None = None,
    seed: int = 0,
) -> Path:
    """Write cosyvoice.yaml, llm.pt (70 KB), and the byte pairs under the name that the vocabulary has upstream."""
    import torch

    if rows is None:
        rows = 256 + MERGES + 1 + SPECIAL_TOKENS[vocabulary] - 100 + languages
    directory.mkdir(parents=True, exist_ok=True)
    text = YAML.format(width=WIDTH, rows=rows, tokenizer=TOKENIZERS[vocabulary], languages=languages)
    (directory / "cosyvoice.yaml").write_text(text)
    torch.save(language_model(rows, seed), directory / "llm.pt")
    name = {"whisper": "multilingual", "cosyvoice": "multilingual_zh_ja_yue_char_del"}[vocabulary]
    write_tiktoken(directory / f"{name}.tiktoken")
    return directory
