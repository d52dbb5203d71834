"""Packages that a backend needs beyond the base installation: whether they are installed, and how to install them.

The extra in setup.cfg has the backend's name. Nothing here imports a package to check for it: torch takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from audio_tokenizers.errors import UsageError

__all__ = ["EXTRAS", "backend_packages", "install_words", "is_installed", "require_packages"]

TRANSFORMERS = ("torch", "transformers", "safetensors", "huggingface_hub")
EXTRAS: dict[str, tuple[str, ...]] = {
    "higgs": (*TRANSFORMERS, "torchaudio"),
    "hf": TRANSFORMERS,
    "bicodec": (*TRANSFORMERS, "torchaudio"),
    "whisper_features": TRANSFORMERS,
    "step_audio": ("torch", "torchaudio", "whisper", "safetensors"),
    "cosyvoice_s3": ("torch", "torchaudio", "whisper"),
    "cosyvoice_text": ("torch", "tiktoken", "safetensors"),
}
"""Backend -> the modules that it imports whatever its options are. What only some options need, `describe` asks for."""
IMPORTED_BY_NAME = {"hf": ("torchaudio",), "whisper_features": ("torchaudio",)}
"""What transformers imports if the distribution is registered as installed, and otherwise does without."""
MODULES = {"openai-whisper": "whisper", "onnxruntime-gpu": "onnxruntime"}
"""Distribution -> its module, where the two differ by more than a dash."""


def is_installed(package: str) -> bool:
    """Whether a distribution's module, or a module, can be found. Imports nothing."""
    try:
        return importlib.util.find_spec(MODULES.get(package, package.replace("-", "_"))) is not None
    except ImportError:
        return False
    except ValueError:  # loaded, but without a spec: made by hand, as in tests
        return True


def require_packages(packages: Iterable[str], extra: str) -> None:
    """Raise UsageError unless the modules of all these distributions are here."""
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        raise UsageError(f"this backend needs {', '.join(missing)}: {install_words(extra)}")


def install_words(extra: str) -> str:
    """The command that installs an extra, or those of `a+b`, and where to run it: the project is on no package index."""
    return f"pip install -e '.[{extra.replace('+', ',')}]' in the folder of tar2tokens"


@contextmanager
def backend_packages(backend: str, asked: str = "") -> Iterator[None]:
    """Describe or load a backend within this block. Raises UsageError where a package is missing, too old or broken.

    `asked` is the name that the user gave, such as a preset's. A combination `a+b` needs what `a` and `b` need.
    """
    parts = backend.split("+")
    missing = [module for part in parts for module in EXTRAS.get(part, ()) if not is_installed(module)]
    by_name = [name for part in parts for name in IMPORTED_BY_NAME.get(part, ())]
    missing += [name for name in by_name if _has_name(name) and not is_installed(name)]
    name = asked or backend
    if missing:
        raise UsageError(_needs(name, backend, list(dict.fromkeys(missing))))
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "audio_tokenizers":
            raise
        if not EXTRAS.keys() & set(parts):
            raise UsageError(f"the backend {name!r} cannot be loaded: {error}: install what its package needs") from error
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise UsageError(_needs(name, backend, [error.name.partition(".")[0]])) from error
        raise UsageError(
            f"the backend {name!r} cannot be loaded: {error}; a package is too old, or broken: {install_words(backend)}"
        ) from error


def _has_name(distribution: str) -> bool:
    return any(importlib.metadata.distributions(name=distribution))


def _needs(name: str, backend: str, missing: Sequence[str]) -> str:
    return f"the backend {name!r} needs {', '.join(missing)}: {install_words(backend)}"
