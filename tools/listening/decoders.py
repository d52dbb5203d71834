"""The decoder of a run's model."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from audio_tokenizers.errors import UsageError
from audio_tokenizers.registry import backend_names, get_factory
from audio_tokenizers.shared.extras import backend_packages
from jobs.spec import TokenizeSpec

if TYPE_CHECKING:
    from audio_tokenizers.base import Decoder, DecodingFactory


__all__ = ["decoding_factory", "load_decoder"]

SAME_FILES = ("weights_sha256", "config_sha256")
"""Recipe keys that identify the model."""


def decoding_factory(spec: TokenizeSpec) -> DecodingFactory:
    """The factory of the run's backend. Raises UsageError if it has no decoder."""
    factory = get_factory(spec.backend)
    if not hasattr(factory, "load_decoder"):
        able = ", ".join(name for name in backend_names() if _can_decode(name))
        raise UsageError(f"{spec.backend} has no decoder from tokens to audio; these backends have one: {able}")
    return cast("DecodingFactory", factory)


def _can_decode(name: str) -> bool:
    try:
        return hasattr(get_factory(name), "load_decoder")
    except UsageError:  # another package's backend is broken; it does not matter here
        return False


def load_decoder(spec: TokenizeSpec, model_path: str | None, device: str) -> Decoder:
    """The decoder of the run's model. Raises UsageError for another model, which would decode good tokens to noise."""
    factory = decoding_factory(spec)
    options = {**spec.options, **({"model_path": model_path} if model_path is not None else {})}
    with backend_packages(factory.name):
        recipe = factory.describe(options, device).recipe
    for key in SAME_FILES:
        if recipe.get(key) != spec.recipe.get(key):
            raise UsageError(
                f"{options.get('model_path')}: expected the model that gave these tokens "
                f"({key} {spec.recipe.get(key) or 'unknown'}), found another "
                f"({recipe.get(key) or 'unknown'}): give the right one with --model-path"
            )
    with backend_packages(factory.name):
        return factory.load_decoder(options, device)
