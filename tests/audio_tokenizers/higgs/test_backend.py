from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.golden_audio import pcm, wave
from support.make_higgs_golden import GOLDEN, LENGTHS, TOO_SHORT
from support.tiny_higgs import (
    build_hubert_cache,
    build_original_layout,
    build_transformers_layout,
    load_higgs,
    speech_like,
    weights_digest,
)

from audio_tokenizers.base import BackendInfo, Batching
from audio_tokenizers.errors import ClipError
from audio_tokenizers.higgs.backend import FACTORY, Higgs

REFERENCE = Path(__file__).parents[2] / "support" / "boson_reference.py"
WITNESSED = [631, 632, 1079, 1591, 1592, 48000 + 632]
"""Lengths at which boson runs beside us: refused, the shortest, with shifted audio, around what needs a second frame."""


def options(directory: Path, *, tf32: bool = False) -> dict[str, str | bool]:
    return {"model_path": str(directory), "tf32": tf32}


def clip(samples: int) -> npt.NDArray[Any]:
    """float32 [samples]."""
    return speech_like(samples)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_original_layout(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def transformers_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_transformers_layout(tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="module")
def backend(original: Path) -> Higgs:
    return load_higgs(options(original), "cpu")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the widths that boson's own constructor fixes."""
    directory = build_original_layout(tmp_path_factory.mktemp("full"), full_width=True)
    yield directory
    shutil.rmtree(directory)  # pytest would keep its 300 MB


@pytest.fixture(scope="module")
def golden(original: Path, full: Path) -> dict[str, dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]]:
    """Checkpoint of the golden file -> samples -> (clip, boson's codes)."""
    found = {}
    with np.load(GOLDEN) as stored:
        for name, directory in (("narrow", original), ("full", full)):
            assert weights_digest(directory) == stored[f"{name}_sha256"], f"the {name} checkpoint is not the golden file's"
            codes = np.split(stored[f"{name}_codes"], np.cumsum(stored[f"{name}_frames"])[:-1], axis=1)
            rows = zip(stored[f"{name}_samples"].tolist(), stored[f"{name}_starts"].tolist(), codes, strict=True)
            found[name] = {samples: (wave(pcm(samples, start)), theirs) for samples, start, theirs in rows}
            assert list(found[name]) == TOO_SHORT + LENGTHS[name], "the clips are not those of the golden file"
    return found


@pytest.mark.parametrize(("name", "at_least"), [("narrow", 200), ("full", 60)])
def test_tokens_equal_those_of_boson_at_every_length_class(
    golden: dict[str, dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]],
    original: Path,
    full: Path,
    name: str,
    at_least: int,
) -> None:
    """From the same weights, each token is the one of boson's own code, wherever a length falls in the hop of 960: with
    small weights at every length class, with those of the widths that boson's constructor fixes at a part of them.
    """
    backend = FACTORY.load(options({"narrow": original, "full": full}[name]), "cpu")
    lengths = LENGTHS[name]
    assert len(lengths) >= at_least
    ours = {samples: backend.encode([golden[name][samples][0]])[0] for samples in lengths}
    differing = [n for n in lengths if not np.array_equal(golden[name][n][1], ours[n])]
    assert not differing, f"{len(differing)} of {len(lengths)} lengths, first {differing[:10]}"
    assert [ours[n].shape for n in lengths] == [(8, (n + 841) // 960) for n in lengths]
    # Codes that hardly vary would agree by chance.
    assert all(len(np.unique(row)) > 100 for row in np.concatenate(list(ours.values()), axis=1))


def test_boson_itself_gives_the_golden_tokens(
    golden: dict[str, dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]], full: Path, tmp_path: Path
) -> None:
    """On this machine, today: else boson has changed, or the golden file was made from something else."""
    waves: dict[str, Any] = {str(samples): golden["full"][samples][0] for samples in WITNESSED}
    np.savez(tmp_path / "waves.npz", **waves)
    # boson's constructor asks the hub for HuBERT.
    settings = {"HF_HOME": str(build_hubert_cache(tmp_path / "hf")), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REFERENCE), str(full), str(tmp_path / "waves.npz"), str(tmp_path / "codes.npz")]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    advice = "is it installed? pip install --no-deps -r requirements/boson.txt"
    assert done.returncode == 0, f"boson-multimodal failed ({advice}):\n{done.stderr[-3000:]}"
    with np.load(tmp_path / "codes.npz") as theirs:
        differing = [n for n in WITNESSED if not np.array_equal(theirs[str(n)], golden["full"][n][1])]
    assert not differing
    assert [golden["full"][n][1].shape[1] for n in WITNESSED] == [0, 1, 2, 2, 2, 51]


def test_the_shortest_clip_is_the_shortest_that_boson_takes(
    golden: dict[str, dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]], backend: Higgs
) -> None:
    """632 samples: boson raises for fewer, so a shorter clip is an error of its own kind and never a token."""
    assert backend.info.min_samples == 632
    for clips in golden.values():
        assert [clips[n][1].shape[1] for n in (*TOO_SHORT, 632)] == [0] * len(TOO_SHORT) + [1]
    assert backend.encode([clip(632)])[0].shape == (8, 1)
    with pytest.raises(ClipError, match="631 samples") as caught:
        backend.encode([clip(631)])
    assert caught.value.kind == "too_short"


def test_both_layouts_are_described_from_their_own_files(original: Path, transformers_layout: Path) -> None:
    """What the pipeline plans with is the same for both layouts of the published sizes."""
    for directory in (original, transformers_layout):
        info = FACTORY.describe(options(directory), "cpu")
        assert isinstance(info, BackendInfo)
        (tokens,) = info.fields
        assert (info.sample_rate, info.hop_length) == (24000, 960)
        assert (tokens.width, tokens.codebook_size, info.mono, info.min_samples) == (8, 1024, "mean", 632)
        assert (info.max_tokens_per_fragment, info.num_tokens_overlap) == (750, 25)
        assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)


def test_tokens_are_small_integers_and_vary(transformers_layout: Path) -> None:
    """int16 [codebooks, frames] below the codebook size, from the transformers layout too."""
    codes = FACTORY.load(options(transformers_layout), "cpu").encode([clip(96000)])[0]
    assert codes.shape == (8, 100)
    assert codes.dtype == np.int16
    assert codes.min() >= 0
    assert codes.max() < 1024
    assert all(len(np.unique(row)) > 10 for row in codes)


@pytest.mark.parametrize("shard_size", ["1GB", "1MB"])
def test_the_transformers_layout_gives_the_tokens_of_the_original(
    original: Path, backend: Higgs, tmp_path: Path, shard_size: str
) -> None:
    """One set of weights gives one set of tokens, whichever layout it is kept in, in one file or in shards."""
    import torch
    from transformers import HiggsAudioV2TokenizerModel

    config = copy.deepcopy(backend._model.config)
    config.acoustic_model_config.decoder_hidden_size = 64
    model = HiggsAudioV2TokenizerModel(config)
    positional = "semantic_model.encoder.pos_conv_embed.conv"
    state = {k: v for k, v in backend._model.state_dict().items() if k != f"{positional}.weight"}
    file = torch.load(original / "model.pth", weights_only=True)
    state |= {k: v for k, v in file.items() if k.startswith(f"{positional}.parametrizations")}
    lacking = model.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    mask = "semantic_model.masked_spec_embed"
    parts = {key.split(".")[0] for key in lacking.missing_keys if key != mask}
    assert parts == {"acoustic_decoder", "decoder_semantic", "fc1", "fc2"}
    model.eval().save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors").exists() == (shard_size == "1GB")
    converted = FACTORY.load(options(tmp_path), "cpu")
    for samples in (632, 1079, 24000, 24119, 24631):
        assert np.array_equal(converted.encode([clip(samples)])[0], backend.encode([clip(samples)])[0])
    # Where no branch needs the shift, transformers' own encode is a second witness.
    with torch.inference_mode():
        witness = model.encode(torch.from_numpy(clip(24000))[None, None]).audio_codes[0].numpy()
    assert np.array_equal(witness, backend.encode([clip(24000)])[0])


def test_the_recipe_changes_with_what_decides_a_token_and_with_nothing_else(original: Path, tmp_path: Path) -> None:
    """Runs are compared by it: a copy elsewhere continues a run; other weights, config, rounding or device do not."""
    recipe = FACTORY.describe(options(original), "cpu").recipe
    moved = shutil.copytree(original, tmp_path / "moved")
    assert FACTORY.describe(options(moved), "cpu").recipe == recipe
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert FACTORY.describe(options(moved), "cpu").recipe == recipe
    (moved / "config.json").write_text(json.dumps(config | {"normalize": True}))
    other = build_original_layout(tmp_path / "other", seed=1)
    changed = {
        "config_sha256": FACTORY.describe(options(moved), "cpu").recipe,
        "weights_sha256": FACTORY.describe(options(other), "cpu").recipe,
        "tf32": FACTORY.describe(options(original, tf32=True), "cpu").recipe,
        "device": FACTORY.describe(options(original), "cuda:1").recipe,
    }
    for key, value in changed.items():
        assert {k for k in recipe if recipe[k] != value[k]} == {key}
    assert recipe == FACTORY.load(options(original), "cpu").info.recipe
    assert (recipe["dtype"], recipe["attention"], recipe["shift_padding"]) == ("float32", "sdpa", 320)
    assert {"torch", "torchaudio", "transformers"} < set(recipe)
