"""audio_tokenizers/registry.py: backends by name, other packages' too; and the import layout that must not change."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from audio_tokenizers import registry
from audio_tokenizers.errors import UsageError
from audio_tokenizers.mulaw import FACTORY
from audio_tokenizers.registry import ENTRY_POINT_GROUP, backend_names, complete_options, get_factory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretend that these entry points are installed, and no others."""

    def pretend(*points: EntryPoint) -> None:
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [p for p in points if p.group == group])
        registry._entry_points.cache_clear()

    yield pretend
    monkeypatch.undo()
    registry._entry_points.cache_clear()


def test_built_in_backends_need_no_installation(install: Callable[..., None]) -> None:
    """A checkout that nobody has installed has this repository's backends."""
    install()
    assert {"mulaw", "higgs"} <= set(backend_names())
    assert backend_names() == sorted(backend_names())
    assert get_factory("mulaw") is FACTORY


def test_built_in_backends_are_the_entry_points() -> None:
    """What setup.cfg registers is what the checkout lists."""
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"][ENTRY_POINT_GROUP].split("\n")
    assert {tuple(part.strip() for part in line.split("=")) for line in lines if line} == set(registry.BUILT_IN.items())


def test_unknown_backend() -> None:
    """A name that does not exist is answered with those that do, and the nearest."""
    with pytest.raises(UsageError, match=r"no backend 'mulow'.*higgs.*mulaw.*did you mean 'mulaw'\?"):
        get_factory("mulow")
    with pytest.raises(UsageError) as caught:
        get_factory("zzz")
    assert "did you mean" not in str(caught.value)


def test_backend_of_another_package(install: Callable[..., None]) -> None:
    """Another package's entry point is a backend, and is imported only when asked for."""
    install(
        EntryPoint("mine", "audio_tokenizers.mulaw:FACTORY", ENTRY_POINT_GROUP),
        EntryPoint("broken", "no.such.module:FACTORY", ENTRY_POINT_GROUP),
        EntryPoint("other", "os:path", "another.group"),
    )
    assert {"mine", "broken", "mulaw"} <= set(backend_names())
    assert "other" not in backend_names()
    assert get_factory("mine") is FACTORY


def test_two_packages_with_one_name(install: Callable[..., None]) -> None:
    """The same entry point twice is one backend; two different ones of a name are refused, each time."""
    point = EntryPoint("mulaw", registry.BUILT_IN["mulaw"], ENTRY_POINT_GROUP)
    install(point, point)
    assert get_factory("mulaw") is FACTORY
    install(EntryPoint("mulaw", "another.package:FACTORY", ENTRY_POINT_GROUP))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"two packages register the backend 'mulaw'.*another.package"):
            backend_names()


def test_options() -> None:
    """Given options go over defaults; an option that does not exist is answered with those that do, and the nearest."""

    class Factory(type(FACTORY)):  # type: ignore[misc]
        options = {"model_path": ("hub/id", "where"), "tf32": (False, "fast")}  # noqa: RUF012

    factory = Factory()
    assert complete_options(factory, {"tf32": True}) == {"model_path": "hub/id", "tf32": True}
    with pytest.raises(UsageError, match=r"no option 'model_pth': it has model_path, tf32; did you mean 'model_path'\?"):
        complete_options(factory, {"model_pth": 1})
    with pytest.raises(UsageError, match="'mulaw' has no option 'x': it has none"):
        complete_options(FACTORY, {"x": 1})


@pytest.mark.slow
def test_hugging_face_tokenizers_are_not_shadowed() -> None:
    """The folder tokenizers/ is no package: from the repository's root, Hugging Face's tokenizers import as ever."""
    assert not (ROOT / "tokenizers" / "__init__.py").exists()
    code = "import jobs, audio_tokenizers.registry, tokenizers; print(tokenizers.Tokenizer.__name__, tokenizers.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Tokenizer ")
    assert str(ROOT / "tokenizers") not in done.stdout


@pytest.mark.slow
def test_listing_backends_imports_no_torch() -> None:
    """Names and descriptions cost no heavy import."""
    code = (
        "import jobs, sys; from audio_tokenizers.registry import *\n"
        "backend_names(); get_factory('mulaw').describe({}, 'cpu')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
