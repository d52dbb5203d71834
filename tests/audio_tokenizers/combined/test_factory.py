"""combined/factory.py: options and models of each part, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_taste import SMALL, TASTE, build_taste

from audio_tokenizers.base import Scalar
from audio_tokenizers.combined import CombinedFactory
from audio_tokenizers.errors import ModelFilesError, UsageError
from audio_tokenizers.registry import complete_options, get_factory
from jobs.spec import load_preset


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_taste(tmp_path_factory.mktemp("models"))


def taste(**given: Scalar) -> dict[str, Scalar]:
    """The preset's options, and these."""
    return complete_options(get_factory(TASTE), {**load_preset("taste").options, **SMALL, **given})


def test_options_are_those_of_the_parts() -> None:
    """Under their names; a slip is answered with what there is."""
    factory = get_factory("cosyvoice_text+whisper_features")
    assert factory.name == "cosyvoice_text+whisper_features"
    assert factory.options["whisper_features.layer"] == get_factory("whisper_features").options["layer"]
    with pytest.raises(UsageError, match=r"no option 'whisper_features.layr'.*did you mean 'whisper_features.layer'"):
        complete_options(factory, {"whisper_features.layr": 3})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cosyvoice_text+cosyvoice_text", "cosyvoice_text occurs twice"),
        ("cosyvoice_text+", "there is no backend ''"),
        ("cosyvoice_txt+mulaw", "no backend 'cosyvoice_txt'.*did you mean 'cosyvoice_text'"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    """As for a single backend."""
    with pytest.raises(UsageError, match=message):
        get_factory(name)


def test_a_backend_of_fragments_is_refused_by_name() -> None:
    """Before anything is loaded."""
    factory = get_factory("mulaw+cosyvoice_text")
    assert isinstance(factory, CombinedFactory)
    with pytest.raises(UsageError, match="mulaw encodes fragments"):
        CombinedFactory([get_factory("mulaw")]).describe({}, "cpu")


def test_it_uses_a_gpu_if_a_part_does() -> None:
    """A GPU is asked for where one of the parts gains from it."""
    assert not getattr(get_factory("mulaw+cosyvoice_text"), "uses_gpu", True)
    assert getattr(get_factory("mulaw+whisper_features"), "uses_gpu", False)


def test_models_in_one_folder(models: Path, tmp_path: Path) -> None:
    """In a folder of the part's name, else of its hub id's repository; a part's own path wins."""
    factory = get_factory(TASTE)
    found = factory.describe(taste(model_path=str(models)), "cpu")
    assert found.recipe["whisper_features.layer"] == 1
    (tmp_path / "whisper_features").symlink_to(models / "whisper-large-v3")
    (tmp_path / "CosyVoice-300M").symlink_to(models / "CosyVoice-300M")
    assert factory.describe(taste(model_path=str(tmp_path)), "cpu") == found
    own: dict[str, Scalar] = {"whisper_features.model_path": str(models / "whisper-large-v3")}
    (tmp_path / "whisper_features").unlink()
    assert factory.describe(taste(model_path=str(tmp_path), **own), "cpu") == found
    with pytest.raises(
        ModelFilesError,
        match=r"whisper_features in its folder whisper_features or whisper-large-v3, found CosyVoice-300M; --set",
    ):
        factory.describe(taste(model_path=str(tmp_path)), "cpu")
    with pytest.raises(ModelFilesError, match="found nothing"):
        factory.describe(taste(model_path=str(tmp_path / "absent")), "cpu")


def test_options_of_older_runs_stay_absent(models: Path) -> None:
    """A part that learns a new option takes runs from before it as it does alone."""
    options = taste(model_path=str(models))
    older = {name: value for name, value in options.items() if not name.endswith((".precision", ".lanes"))}
    assert get_factory(TASTE).describe(older, "cuda").max_batch == 32
    assert get_factory(TASTE).describe(options, "cuda").max_batch == 16
