from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tiny_cosyvoice_text import WIDTH, build_cosyvoice, language_model, read_sentences

from audio_tokenizers.base import Batching, Scalar, Utterance
from audio_tokenizers.cosyvoice_text.backend import FACTORY, CosyVoiceText
from audio_tokenizers.errors import ClipError, ModelFilesError, UsageError

ROWS = 457 + 1609
WAVE = np.zeros(16000, np.float32)


def options(directory: Path, **changes: Scalar) -> dict[str, Scalar]:
    return {"model_path": str(directory), "tokenizer_path": None, **changes}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cosyvoice(tmp_path_factory.mktemp("cosyvoice") / "model")


@pytest.fixture(scope="module")
def backend(model: Path) -> CosyVoiceText:
    return FACTORY.load(options(model), "cpu")


def encode(backend: CosyVoiceText, text: str | None) -> dict[str, npt.NDArray[Any]]:
    return dict(backend.encode_clips([Utterance(WAVE, text)])[0])


def save(directory: Path, state: object) -> Path:
    import torch

    torch.save(state, directory / "llm.pt")
    return directory


def test_each_token_has_its_row_of_the_table(backend: CosyVoiceText, model: Path) -> None:
    """What torch.nn.Embedding makes of upstream's tokens, bit for bit, for texts of all scripts."""
    import torch

    table = torch.nn.Embedding.from_pretrained(torch.load(model / "llm.pt")["text_embedding.weight"])
    for text in read_sentences():
        if not text.strip():
            continue
        values = encode(backend, text)
        tokens, embedding = values["text_tokens"], values["text_embedding"]
        assert (tokens.dtype, embedding.dtype) == (np.dtype(np.int32), np.dtype(np.float32))
        assert embedding.shape == (len(tokens), WIDTH)
        assert np.array_equal(embedding, table(torch.from_numpy(tokens).long()).numpy())


def test_the_transcript_is_taken_as_it_is(backend: CosyVoiceText) -> None:
    """No normalisation: digits, case, spaces at the ends and special tokens all count."""
    plain = encode(backend, "42 wives")["text_tokens"]
    for other in ("42 Wives", " 42 wives", "42 wives\n", "forty-two wives"):
        assert not np.array_equal(encode(backend, other)["text_tokens"], plain)
    assert encode(backend, "<|en|>")["text_tokens"].tolist() == [457 + 2]


@pytest.mark.parametrize("text", [None, "", " \n\t"])
def test_a_clip_without_words_is_an_error_of_its_own_kind(backend: CosyVoiceText, text: str | None) -> None:
    """An empty embedding in a data set would look like one that was lost."""
    with pytest.raises(ClipError) as caught:
        encode(backend, text)
    assert caught.value.kind == "no_text"


def test_what_it_declares(model: Path) -> None:
    """Two fields whose lengths have nothing to do with the audio's, from whole clips that have a transcript."""
    info = FACTORY.describe(options(model), "cuda:1")
    tokens, embedding = info.fields
    assert (tokens.name, tokens.form, tokens.codebook_size, tokens.samples_per_item) == ("text_tokens", "list", ROWS, None)
    assert (embedding.name, embedding.form, embedding.width) == ("text_embedding", "features", WIDTH)
    assert (embedding.dtype, embedding.samples_per_item, embedding.items) == ("float32", None, None)
    assert (info.needs_text, info.max_tokens_per_fragment, info.min_samples) == (True, None, 1)
    assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)


def test_the_recipe_is_of_what_decides_a_token_and_a_row(model: Path, tmp_path: Path) -> None:
    """Other weights or another tokenizer make another data set; another place, device or yaml comment do not."""
    recipe = FACTORY.describe(options(model), "cpu").recipe
    assert recipe == FACTORY.load(options(model), "cpu").info.recipe
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    (moved / "cosyvoice.yaml").write_text("# ours\n" + (moved / "cosyvoice.yaml").read_text())
    assert FACTORY.describe(options(moved), "cuda").recipe == recipe
    assert recipe["text_normalization"] == "none"
    assert (recipe["vocabulary"], recipe["num_languages"], recipe["allowed_special"]) == ("whisper", 100, "all")
    other = FACTORY.describe(options(build_cosyvoice(tmp_path / "other", seed=1)), "cpu").recipe
    assert {key for key in recipe if recipe[key] != other[key]} == {"weights_sha256"}
    pairs = moved / "multilingual.tiktoken"
    lines = pairs.read_text().splitlines()
    lines[300], lines[301] = (f"{lines[b].split()[0]} {a}" for a, b in ((300, 301), (301, 300)))
    pairs.write_text("\n".join(lines) + "\n")
    changed = FACTORY.describe(options(moved), "cpu").recipe
    assert {key for key in recipe if recipe[key] != changed[key]} == {"tokenizer_sha256"}


def test_only_the_table_is_read(model: Path, tmp_path: Path) -> None:
    """llm.pt has about 1.2 GB, the table 106 MB: what else is in it never becomes memory."""
    import torch

    # A view of one element that would be 4 TB as a tensor of its own.
    huge = torch.ones(1).expand(1 << 20, 1 << 20)
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    save(directory, language_model(ROWS) | {"llm.encoders.0.feed_forward.w_1.weight": huge})
    expected = encode(FACTORY.load(options(model), "cpu"), "a wife")
    assert np.array_equal(
        encode(FACTORY.load(options(directory), "cpu"), "a wife")["text_embedding"], expected["text_embedding"]
    )


def test_a_half_precision_table_is_widened(model: Path, tmp_path: Path) -> None:
    """Values are float32 whatever the file has; from float16 and bfloat16 that loses nothing."""
    import torch

    directory = Path(shutil.copytree(model, tmp_path / "model"))
    state = {name: tensor.to(torch.bfloat16) for name, tensor in language_model(ROWS).items()}
    values = encode(FACTORY.load(options(save(directory, state)), "cpu"), "a wife")
    assert values["text_embedding"].dtype == np.float32
    rows = state["text_embedding.weight"][torch.from_numpy(values["text_tokens"]).long()]
    assert np.array_equal(values["text_embedding"], rows.float().numpy())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: {f"llm.model.model.{name}": tensor for name, tensor in s.items()}, "those of CosyVoice 2 or 3"),
        (lambda s: {name: tensor for name, tensor in s.items() if "text_embedding" not in name}, "text_embedding.weight"),
        (
            lambda s: s | {"text_embedding.weight": s["text_embedding.weight"][1:]},
            r"text_embedding.weight \[2065, 8\] instead of \[2066, 8\]",
        ),
        (lambda s: s | {"text_embedding.weight": s["text_embedding.weight"].int()}, "int32"),
        (lambda s: [s], "state dict"),
    ],
)
def test_a_foreign_llm_is_refused(
    model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    """CosyVoice 2 and 3 call their file llm.pt too; and a table of another size is not this tokenizer's."""
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    save(directory, change(language_model(ROWS)))
    with pytest.raises(ModelFilesError, match=expected) as caught:
        FACTORY.load(options(directory), "cpu")
    assert str(directory / "llm.pt") in str(caught.value)


def test_what_upstreams_trainer_saves_is_taken(model: Path, backend: CosyVoiceText, tmp_path: Path) -> None:
    """It keeps the epoch and the step among the tensors."""
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    save(directory, language_model(ROWS) | {"epoch": 3, "step": 700})
    trained = encode(FACTORY.load(options(directory), "cpu"), "a wife")
    assert np.array_equal(trained["text_embedding"], encode(backend, "a wife")["text_embedding"])


def test_audio_is_only_measured(backend: CosyVoiceText) -> None:
    """The wave is resampled to 16 kHz for its length; what it holds changes nothing."""
    noise = np.random.default_rng(0).standard_normal(44100).astype(np.float32)
    wave = backend.resample(noise, 44100)
    assert wave.shape == (16000,)
    values = backend.encode_clips([Utterance(wave, "a wife")])[0]
    assert np.array_equal(values["text_tokens"], encode(backend, "a wife")["text_tokens"])


@pytest.mark.parametrize("path", [True, "", 3])
def test_a_tokenizer_path_is_a_text_or_null(model: Path, path: bool | str | int) -> None:
    """A slip in an option is one message, not a traceback."""
    with pytest.raises(UsageError, match="tokenizer_path: expected a file or null"):
        FACTORY.describe(options(model, tokenizer_path=path), "cpu")
