"""tools/fetching/model_sources.py: what is fetched for each backend, and what its licence asks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny_bicodec, tiny_cosyvoice_text, tiny_hf, tiny_s3, tiny_step_audio, tiny_whisper

import jobs
from audio_tokenizers.bicodec.files import open_bicodec
from audio_tokenizers.cosyvoice_text import files as cosyvoice_text_files
from audio_tokenizers.errors import UsageError
from audio_tokenizers.hf import files as hf_files
from audio_tokenizers.shared.s3_onnx import read_variant
from audio_tokenizers.step_audio import files as step_audio_files
from audio_tokenizers.whisper_features import files as whisper_features_files
from jobs.spec import load_preset
from tools.fetching.model_sources import PARTS, SOURCES, ModelSource, find_source

PRESETS = sorted(path.stem for path in Path(jobs.__file__).parent.glob("*.yaml"))
EVERY = [(name, variant, source) for name, variants in SOURCES.items() for variant, source in variants.items()]


def test_every_preset_has_a_source() -> None:
    """A preset that nobody can fetch files for would be noticed by its first user only."""
    assert set(PRESETS) <= {*SOURCES, *PARTS}


def test_the_parts_of_a_preset_are_its_backends() -> None:
    """From the repositories that the preset names, each with its variant."""
    for name, parts in PARTS.items():
        preset = load_preset(name)
        assert preset.backend == "+".join(part for part, _ in parts)
        for part, variant in parts:
            assert find_source(part, variant).repository == preset.options[f"{part}.model_path"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_hub_id_of_a_preset_is_what_is_fetched(name: str) -> None:
    """Whoever lets a backend download by itself gets the repository that fetch_model would have fetched."""
    path = load_preset(name).options.get("model_path")
    if isinstance(path, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        assert path == find_source(name, None).repository


@pytest.mark.parametrize(("name", "variant", "source"), EVERY)
def test_sources_are_complete(name: str, variant: str, source: ModelSource) -> None:
    """Each says where, what, how much and under which licence; needed files are names, not patterns."""
    if not source.repository:
        assert name == "mulaw"
        assert source.note
        return
    assert source.folder
    assert 0 < source.size < 10
    assert source.licences
    assert all(licence.url.startswith("https://") and licence.name for licence in source.licences)
    assert source.files
    assert not any(character in path for path in source.files for character in "*?[")
    assert source.revision is None or re.fullmatch(r"[0-9a-f]{40}", source.revision)
    assert all(re.fullmatch(r"[0-9a-f]{64}", extra.sha256) and extra.size > 0 for extra in source.extra)
    assert not variant or variant == source.folder


def test_consent_is_asked_where_a_licence_restricts_use() -> None:
    """Spark-TTS is not for commerce, and Higgs not for everyone; the others are named only."""
    restricted = {name for name, _, source in EVERY if any(licence.restriction for licence in source.licences)}
    assert restricted == {"higgs", "bicodec"}


def test_nothing_that_encoding_does_not_need() -> None:
    """Language models and vocoders, the greater part of these repositories, stay where they are."""
    paths = [path for _, _, source in EVERY for path in (*source.files, *source.optional)]
    assert not [path for path in paths if path.startswith(("LLM/", "flow", "hift", "campplus", "CosyVoice-BlankEN"))]
    assert [source.files for source in SOURCES["cosyvoice_s3"].values()] == [
        ("speech_tokenizer_v2.onnx",),
        ("speech_tokenizer_v1.onnx",),
        ("speech_tokenizer_v1.onnx",),
    ]


OPENED: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "step_audio": (tiny_step_audio.build_step_audio, lambda folder: step_audio_files.open_checkpoint(str(folder))),
    "cosyvoice_s3": (
        lambda folder: tiny_s3.build_s3_onnx(folder / "speech_tokenizer_v2.onnx", "v2"),
        lambda folder: read_variant(folder / "speech_tokenizer_v2.onnx"),
    ),
    "bicodec": (tiny_bicodec.build_spark_tts, lambda folder: open_bicodec(str(folder))),
    "mimi": (lambda folder: tiny_hf.build(folder, "mimi"), lambda folder: hf_files.open_checkpoint(str(folder))),
    "whisper_features": (tiny_whisper.build_whisper, lambda folder: whisper_features_files.open_checkpoint(str(folder))),
    "cosyvoice_text": (
        tiny_cosyvoice_text.build_cosyvoice,
        lambda folder: cosyvoice_text_files.open_checkpoint(str(folder), None),
    ),
}
"""Backend or preset -> (writes a tiny checkpoint in the published layout, opens a directory as the backend does)."""


@pytest.mark.slow
@pytest.mark.parametrize("name", OPENED)
def test_what_is_fetched_is_enough(name: str, tmp_path: Path) -> None:
    """Each backend opens a directory that has the needed files of the published layout, and no others."""
    build, open_directory = OPENED[name]
    published, fetched = tmp_path / "published", tmp_path / "fetched"
    published.mkdir()
    build(published)
    source = find_source(name, None)
    for path in (*source.files, *(extra.path for extra in source.extra)):
        (fetched / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published / path, fetched / path)
    open_directory(fetched)


def test_variants() -> None:
    """The first is the default; another is taken by name."""
    assert find_source("cosyvoice_s3", None).repository == "FunAudioLLM/CosyVoice2-0.5B"
    assert find_source("cosyvoice_s3", "CosyVoice-300M").files == ("speech_tokenizer_v1.onnx",)
    assert find_source("higgs", None).repository == "bosonai/higgs-audio-v2-tokenizer"


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("higs", None, "did you mean 'higgs'?"),
        ("cosyvoice_s3", "CosyVoice3", "variants: CosyVoice2-0.5B, CosyVoice-300M, CosyVoice-300M-25Hz"),
        ("mimi", "large", "variants: none"),
        ("mimi", "", "variants: none"),
    ],
)
def test_names_that_do_not_exist(name: str, variant: str | None, words: str) -> None:
    """The message says what there is."""
    with pytest.raises(UsageError, match=re.escape(words)):
        find_source(name, variant)
