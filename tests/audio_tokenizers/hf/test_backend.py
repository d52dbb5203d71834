from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tiny_hf import CODECS, build, write_extractor
from support.tiny_higgs import speech_like

from audio_tokenizers.base import Batching
from audio_tokenizers.errors import ClipError
from audio_tokenizers.hf.backend import FACTORY, HfCodec
from jobs.spec import load_preset

RECORDING = speech_like(60000)
HOPS = {"mimi": 1920, "dac": 512, "encodec": 320, "xcodec": 320}
RATES = {"mimi": 24000, "dac": 44100, "encodec": 24000, "xcodec": 16000}


def options(directory: Path, **given: Any) -> dict[str, Any]:
    return {"model_path": str(directory), "num_quantizers": None, "bandwidth": None, "tf32": False} | given


def clip(samples: int) -> npt.NDArray[Any]:
    """Another piece of one recording for each length."""
    piece: npt.NDArray[Any] = RECORDING[samples % 4801 :][:samples]
    return piece


def lengths(hop: int) -> list[int]:
    """All around the first hops, and around two later ones; the shortest clips; residues all over the hop."""
    edges = [k * hop + d for k in (1, 2, 3, 12) for d in (-1, 0, 1)]
    return sorted({1, 2, 3, 7, 79, 80, 100, *edges, *(5 * hop + r for r in range(0, hop, hop // 12))})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {codec: build(tmp_path_factory.mktemp(codec), codec) for codec in CODECS}
    for codec, directory in found.items():
        write_extractor(directory, codec, RATES[codec], HOPS[codec])
    return found


@pytest.fixture(scope="module")
def backends(models: dict[str, Path]) -> dict[str, HfCodec]:
    return {codec: FACTORY.load(options(directory), "cpu") for codec, directory in models.items()}


@pytest.fixture(scope="module")
def theirs(models: dict[str, Path]) -> dict[str, Any]:
    from transformers import AutoModel

    return {codec: AutoModel.from_pretrained(directory).eval() for codec, directory in models.items()}


def grid(codes: Any) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = (codes[0] if codes.ndim == 4 else codes)[0].numpy()
    return found


def bare(model: Any, wave: npt.NDArray[Any], **arguments: Any) -> npt.NDArray[Any]:
    """What the model alone gives."""
    import torch

    with torch.inference_mode():
        return grid(model.encode(torch.from_numpy(wave)[None, None], **arguments).audio_codes)


def documented(model: Any, extractor: Any, wave: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the pages of transformers show: the feature extractor, and the model on all that it gives."""
    import torch

    inputs = extractor(raw_audio=wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    mask = [inputs["padding_mask"]] if model.config.model_type in ("mimi", "encodec") else []
    with torch.inference_mode():
        return grid(model.encode(inputs["input_values"], *mask).audio_codes)


@pytest.mark.parametrize("codec", CODECS)
def test_tokens_equal_those_of_transformers_at_every_length_class(
    models: dict[str, Path], backends: dict[str, HfCodec], theirs: dict[str, Any], codec: str
) -> None:
    """Each token is the one of the documented way, wherever a length falls in the hop; ceil(n / hop) frames."""
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(models[codec])
    hop = HOPS[codec]
    ours = {n: backends[codec].encode([clip(n)])[0] for n in lengths(hop)}
    assert len(ours) >= 30
    differing = [n for n, codes in ours.items() if not np.array_equal(codes, documented(theirs[codec], extractor, clip(n)))]
    assert differing == []
    assert [codes.shape[1] for codes in ours.values()] == [-(-n // hop) for n in ours]
    # Codes that hardly vary would agree by chance.
    assert min(len(np.unique(row)) for row in np.concatenate(list(ours.values()), axis=1)) >= 10
    assert all(codes.dtype == np.int16 for codes in ours.values())


@pytest.mark.parametrize("codec", CODECS)
def test_where_the_bare_model_gives_other_tokens(backends: dict[str, HfCodec], theirs: dict[str, Any], codec: str) -> None:
    """Mimi and EnCodec pad their own ends; DAC and X-codec get zeros up to a whole hop, as their extractor adds them."""
    hop = HOPS[codec]
    for samples in (hop, 12 * hop):
        assert np.array_equal(backends[codec].encode([clip(samples)])[0], bare(theirs[codec], clip(samples)))
    ours, model = backends[codec].encode([clip(12 * hop + 1)])[0], bare(theirs[codec], clip(12 * hop + 1))
    assert np.array_equal(ours, model) == (codec in ("mimi", "encodec"))
    assert backends[codec].info.recipe["padding"] == ("none" if codec in ("mimi", "encodec") else "zeros to a whole hop")


def test_dac_pads_to_its_own_hop_whatever_its_extractor_says(tmp_path: Path) -> None:
    """The extractors published for 16 and 24 kHz have the hop of 44.1 kHz; descript's own code pads to the model's."""
    small = build(tmp_path, "dac", downsampling_ratios=[2, 4, 5, 8], sampling_rate=24000, n_codebooks=4)
    write_extractor(small, "dac", 24000, 512)
    backend = FACTORY.load(options(small), "cpu")
    assert backend.info.hop_length == 320
    codes = backend.encode([clip(3201)])[0]
    assert np.array_equal(codes, backend.encode([np.pad(clip(3201), (0, 319))])[0])
    assert codes.shape == (4, 11)


@pytest.mark.parametrize(("codec", "few"), [("mimi", 8), ("mimi", 1), ("dac", 4)])
def test_fewer_codebooks_are_the_first_rows(
    models: dict[str, Path], backends: dict[str, HfCodec], theirs: dict[str, Any], codec: str, few: int
) -> None:
    """num_quantizers is what the model's encode gives for it: the first rows of all of them."""
    codes = FACTORY.load(options(models[codec], num_quantizers=few), "cpu").encode([clip(20 * 512)])[0]
    keyword = "num_quantizers" if codec == "mimi" else "n_quantizers"
    assert np.array_equal(codes, backends[codec].encode([clip(20 * 512)])[0][:few])
    assert np.array_equal(codes, bare(theirs[codec], clip(20 * 512), **{keyword: few}))
    assert FACTORY.describe(options(models[codec], num_quantizers=few), "cpu").fields[0].width == few


@pytest.mark.parametrize(
    ("codec", "given", "codebooks"),
    [
        ("mimi", {"num_quantizers": 8}, 8),
        ("dac", {"num_quantizers": 4}, 4),
        ("encodec", {"bandwidth": 3.0}, 4),
        ("xcodec", {"bandwidth": 1.0}, 2),
    ],
)
def test_no_codebook_is_searched_beyond_those_asked_for(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, codec: str, given: dict[str, Any], codebooks: int
) -> None:
    """Where a model has 32 and 8 are wanted, the others cost nothing."""
    backend = FACTORY.load(options(models[codec], **given), "cpu")
    searched = []

    def listen(part: Any, search: str) -> None:
        plain = getattr(part, search)

        def note(hidden: Any) -> Any:
            searched.append(part)
            return plain(hidden)

        monkeypatch.setattr(part, search, note)

    parts = [part for part in backend._model.quantizer.modules() if hasattr(part, "codebook")]
    for part in parts:
        listen(part, "decode_latents" if codec == "dac" else "encode")
    assert backend.encode([clip(5000)])[0].shape[0] == codebooks
    assert len(searched) == len(set(searched)) == codebooks < len(parts)


@pytest.mark.parametrize(("codec", "bandwidth", "codebooks"), [("encodec", 6.0, 8), ("encodec", 24, 32), ("xcodec", 1.5, 3)])
def test_a_bandwidth_is_that_of_the_model(
    models: dict[str, Path], theirs: dict[str, Any], codec: str, bandwidth: float, codebooks: int
) -> None:
    """Bandwidth is what the model's encode gives for it."""
    backend = FACTORY.load(options(models[codec], bandwidth=bandwidth), "cpu")
    codes = backend.encode([clip(6400)])[0]
    assert np.array_equal(codes, bare(theirs[codec], clip(6400), bandwidth=bandwidth))
    assert len(codes) == codebooks == backend.info.fields[0].width


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_one_clip_after_another(backends: dict[str, HfCodec], codec: str) -> None:
    """Nothing but single clips is promised, and a list of clips gives the tokens of each alone."""
    info = backends[codec].info
    assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)
    waves = [clip(n) for n in (1, 5000, 641)]
    together = backends[codec].encode(waves)
    assert all(np.array_equal(a, backends[codec].encode([b])[0]) for a, b in zip(together, waves, strict=True))


@pytest.mark.parametrize("codec", CODECS)
def test_one_sample_is_enough_and_none_is_too_short(backends: dict[str, HfCodec], codec: str) -> None:
    """Each codec makes a frame of a single sample, and an empty clip is an error of its own kind."""
    assert backends[codec].info.min_samples == 1
    assert backends[codec].encode([clip(1)])[0].shape[1] == 1
    with pytest.raises(ClipError, match="0 samples") as caught:
        backends[codec].encode([clip(0)])
    assert caught.value.kind == "too_short"


@pytest.mark.parametrize("codec", CODECS)
def test_decoding_is_that_of_transformers(
    models: dict[str, Path], backends: dict[str, HfCodec], theirs: dict[str, Any], codec: str
) -> None:
    """The same codes give the same samples, bit for bit, through the strictly loaded decoder."""
    import torch

    codes = backends[codec].encode([clip(20000)])[0]
    wave = FACTORY.load_decoder(options(models[codec]), "cpu").decode(codes)
    held = torch.from_numpy(codes.astype(np.int64))
    arguments: dict[str, dict[str, Any]] = {
        "dac": {"audio_codes": held[None]},
        "encodec": {"audio_codes": held[None, None], "audio_scales": [None]},
    }
    with torch.inference_mode():
        expected = theirs[codec].decode(**arguments.get(codec, {"audio_codes": held[None]})).audio_values
    assert np.array_equal(wave, expected.reshape(-1).numpy())
    assert (wave.dtype, len(wave)) == (np.dtype(np.float32), codes.shape[1] * HOPS[codec])


@pytest.mark.parametrize(
    ("codec", "rate", "fragment", "overlap"),
    [("mimi", 24000, 375, 13), ("dac", 44100, 2584, 87), ("encodec", 24000, 2250, 75), ("xcodec", 16000, 1500, 50)],
)
def test_description(models: dict[str, Path], codec: str, rate: int, fragment: int, overlap: int) -> None:
    """What the pipeline plans with: 30 s fragments with one second of overlap on each side, in frames of the codec."""
    info = FACTORY.describe(options(models[codec]), "cpu")
    field = info.fields[0]
    assert (info.name, info.sample_rate, info.hop_length, info.mono) == ("hf", rate, HOPS[codec], "mean")
    assert (info.max_tokens_per_fragment, info.num_tokens_overlap) == (fragment, overlap)
    assert (field.name, field.form, field.samples_per_item) == ("tokens", "codes", HOPS[codec])


def test_the_recipe_changes_with_what_decides_a_token_and_with_nothing_else(models: dict[str, Path], tmp_path: Path) -> None:
    """Runs are compared by it: a copy elsewhere continues a run; other weights, config, options or device do not."""
    recipe = FACTORY.describe(options(models["mimi"]), "cpu").recipe
    moved = shutil.copytree(models["mimi"], tmp_path / "moved")
    assert FACTORY.describe(options(moved), "cpu").recipe == recipe
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"norm_eps": 1e-6}))
    other = build(tmp_path / "other", "mimi", seed=1)
    changed = {
        "config_sha256": FACTORY.describe(options(moved), "cpu").recipe,
        "weights_sha256": FACTORY.describe(options(other), "cpu").recipe,
        "num_quantizers": FACTORY.describe(options(models["mimi"], num_quantizers=8), "cpu").recipe,
        "tf32": FACTORY.describe(options(models["mimi"], tf32=True), "cpu").recipe,
        "device": FACTORY.describe(options(models["mimi"]), "cuda:1").recipe,
    }
    for key, value in changed.items():
        assert {k for k in recipe if recipe[k] != value[k]} == {key}
    assert (recipe["codec"], recipe["dtype"], recipe["attention"]) == ("mimi", "float32", "sdpa")
    assert {"torch", "transformers"} < set(recipe)


def test_the_attention_is_the_recipes(models: dict[str, Path], backends: dict[str, HfCodec]) -> None:
    """Mimi and HuBERT attend with what the recipe names; DAC and EnCodec have no attention."""
    assert backends["mimi"]._model.encoder.config._attn_implementation == "sdpa"
    assert backends["xcodec"]._model.semantic_model.config._attn_implementation == "sdpa"
    found = {codec: backends[codec].info.recipe["attention"] for codec in CODECS}
    assert found == {"mimi": "sdpa", "dac": None, "encodec": None, "xcodec": "sdpa"}


def test_weights_kept_in_half_precision_are_computed_in_single(models: dict[str, Path], tmp_path: Path) -> None:
    """Transformers would compute in the file's own type; here it is float32 always, as the recipe says."""
    import torch
    from transformers import AutoModel

    AutoModel.from_pretrained(models["encodec"], dtype=torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert AutoModel.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert np.array_equal(FACTORY.load(options(tmp_path), "cpu").encode([clip(6400)])[0], bare(model, clip(6400)))


def test_decoding_never_touches_the_network(
    models: dict[str, Path], backends: dict[str, HfCodec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nodes have no network: with a directory, nothing is looked for elsewhere."""
    import huggingface_hub.constants

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for codec in ("dac", "xcodec"):
        codes = backends[codec].encode([clip(700)])[0]
        assert len(FACTORY.load_decoder(options(models[codec]), "cpu").decode(codes))
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("codec", CODECS)
def test_presets_have_options_that_the_backend_knows(models: dict[str, Path], codec: str) -> None:
    """--backend mimi, dac, encodec and xcodec are this backend with the published model."""
    preset = load_preset(codec)
    assert preset.backend == "hf"
    given = {key: default for key, (default, _) in FACTORY.options.items()} | preset.options
    assert set(given) == set(FACTORY.options)
    assert "/" in str(given["model_path"])
    FACTORY.describe(given | {"model_path": str(models[codec])}, "cpu")
