"""Makes golden/higgs.npz: the codes that boson-multimodal's own code gives for the random checkpoints of tiny_higgs.py.

    .venv/bin/python tests/support/make_higgs_golden.py

with what requirements/boson.txt pins, on one thread of a CPU, with torch 2.13.0, torchaudio 2.11.0, transformers 5.23.0 and
numpy 2.4.6. There are two checkpoints:

- "full": the widths that boson's constructor fixes. Its code runs as it is.
- "narrow": a hundredth of the weights, hence quick enough for every length. boson's constructor is given these widths in
  place of the ones it fixes; all else of its code, the loader and `encode` included, runs as it is.

A machine may round otherwise than this one. So that its codes are the same nevertheless, each clip is a piece of speech in
which no code was a near thing (`MARGIN`), found by trying one piece after another. Stored per clip: samples, where it starts
in the speech of golden_audio.py, frames, and boson's codes; no frames where boson raises.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tokenizers")]

from support import boson_reference  # noqa: E402
from support.golden_audio import pcm, wave  # noqa: E402
from support.tiny_higgs import (  # noqa: E402
    FULL,
    NARROW,
    Widths,
    build_hubert_cache,
    build_original_layout,
    weights_digest,
)

__all__ = ["GOLDEN", "LENGTHS", "TOO_SHORT"]

GOLDEN = ROOT / "tests" / "audio_tokenizers" / "golden" / "higgs.npz"
SHORT = [632 + 959 * number // 184 + 960 * (number % 3) for number in range(185)]
"""Residues all over the hop, at most six apart, in clips of 1 to 4 frames."""
EDGES = [632, 633, 960, 1078, 1079, 1080, 1590, 1591, 1592, 1593, 1919, 1920, 1921]
LONG = [48000, 48000 + 118, 48000 + 119, 48000 + 631, 48000 + 632, 96001]
TOO_SHORT = [1, 100, 119, 320, 480, 630, 631]
LENGTHS = {
    "narrow": sorted({*SHORT, *EDGES, *LONG}),
    "full": sorted({*SHORT[::4], *EDGES, *LONG}),
}
"""Samples of the clips that have codes."""

MARGIN = 1e-2
"""How much nearer, in squared distance, a code's vector must be than any other; rounding moves it by some 1e-5."""

Clip: TypeAlias = "tuple[int, npt.NDArray[np.int64]]"
"""Where the clip starts in the speech, and boson's codes [codebooks, frames]."""


def take_widths(widths: Widths) -> None:
    """Have boson's constructor take these widths where it fixes some."""
    from boson_multimodal.audio_processing import higgs_audio_tokenizer as boson

    encoder, decoder = boson.dac2.Encoder, boson.dac2.Decoder
    boson.dac2.Encoder = lambda _width, strides, outputs: encoder(widths.dac, strides, outputs)
    boson.dac2.Decoder = lambda inputs, _width, strides: decoder(inputs, widths.decoder, strides)
    fixed = property(lambda _: widths.semantic, lambda *_: None)
    boson.HiggsAudioTokenizer.semantic_dim = boson.HiggsAudioTokenizer.encoder_semantic_dim = fixed


def watch_margins(tokenizer: Any) -> list[float]:
    """A list to which each call of a codebook adds its narrowest decision."""
    margins: list[float] = []

    def look(codebook: Any, inputs: tuple[Any, ...]) -> None:
        vectors = inputs[0].double().flatten(end_dim=-2)
        nearest, second = (vectors[:, None] - codebook.embed.double()).square().sum(-1).topk(2, largest=False).values.T
        margins.append(float((second - nearest).min()))

    for layer in tokenizer.quantizer.vq.layers:
        layer._codebook.register_forward_pre_hook(look)
    return margins


def clear_clips(tokenizer: Any, lengths: list[int]) -> Iterator[Clip]:
    """For each length a clip without a near thing."""
    margins = watch_margins(tokenizer)
    for number, samples in enumerate(lengths):
        for start in range(60013 * number, sys.maxsize, 997):
            margins.clear()
            codes = boson_reference.encode(tokenizer, wave(pcm(samples, start)))
            if not codes.size or min(margins) > MARGIN:
                yield start, codes
                break


def make(name: str, folder: Path) -> dict[str, npt.NDArray[Any]]:
    """What the golden file has of one checkpoint; HF_HOME must be `folder` / "hf" since this process began."""
    import torch

    torch.set_num_threads(1)
    widths = NARROW if name == "narrow" else FULL
    build_hubert_cache(folder / "hf", widths)
    model = build_original_layout(folder / "model", full_width=name == "full")
    if name == "narrow":
        take_widths(widths)
    lengths = TOO_SHORT + LENGTHS[name]
    clips = list(clear_clips(boson_reference.load(model), lengths))
    return {
        f"{name}_sha256": np.array(weights_digest(model)),
        f"{name}_samples": np.array(lengths, np.int32),
        f"{name}_starts": np.array([start for start, _ in clips], np.int32),
        f"{name}_frames": np.array([codes.shape[1] for _, codes in clips], np.int16),
        f"{name}_codes": np.concatenate([codes for _, codes in clips], axis=1).astype(np.int16),
    }


def main() -> None:
    stored: dict[str, Any] = {}
    for name in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"HF_HOME": f"{folder}/hf", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                stored |= pool.submit(make, name, Path(folder)).result()
    np.savez_compressed(GOLDEN, **stored)
    counts = {name: len(stored[f"{name}_samples"]) for name in LENGTHS}
    print(f"{GOLDEN}: {counts} clips, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
