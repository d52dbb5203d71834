"""Networks of transformers that are made from a config, without files: what each loader does alike around `Weights`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.early_imports import import_early
from audio_tokenizers.shared.extras import is_installed

__all__ = ["config_errors", "merge_parametrizations", "without_storage"]


@contextmanager
def config_errors(path: Path, *others: type[Exception], what: str = "refuses this config") -> Iterator[None]:
    """Raise ModelFilesError for whatever transformers raises within this block over the config at `path`.

    `others` are further exceptions that mean the same, and `what` says what transformers does.
    """
    from huggingface_hub.errors import StrictDataclassError

    # Newer versions check the types of a config, older ones stumble over it where it is used.
    errors: tuple[type[Exception], ...] = (StrictDataclassError, KeyError, TypeError, ValueError, RuntimeError, *others)
    try:
        yield
    except errors as error:
        reason = " ".join(str(error).split())
        raise ModelFilesError(f"{path}: transformers {what} ({reason})") from None


def without_storage(path: Path, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - the modules of transformers have no types
    """The model that `make` makes of the config at `path`, on the meta device.

    Random weights, which take longer than reading the real ones, are never drawn, and memory stays near that of the file.
    Raises ModelFilesError.
    """
    import torch

    # transformers imports it when a model is made. On the meta device its constants would have no values, for all
    # backends that are loaded in this process later.
    if is_installed("torchaudio"):
        import_early("torchaudio.compliance.kaldi")
    with config_errors(path), torch.device("meta"):
        return make()


def merge_parametrizations(model: Any) -> None:  # noqa: ANN401 - the modules of transformers have no types
    """Have each module below `model` hold its weight itself, in place of the two parts of a weight norm.

    Else each call would compute it anew, to the same values.
    """
    from torch.nn.utils import parametrize

    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
