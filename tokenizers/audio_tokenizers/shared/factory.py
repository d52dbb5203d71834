"""The part of a backend's factory that does not depend on its model: a checkpoint is opened, described, and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from audio_tokenizers.base import Backend, BackendInfo, Field, Options

__all__ = ["ModelFactory", "code_grid"]

CheckpointT = TypeVar("CheckpointT")
BackendT = TypeVar("BackendT", bound=Backend)


class ModelFactory(ABC, Generic[CheckpointT, BackendT]):
    """A BackendFactory of models that lie in files. Subclasses have `name` and `options` too."""

    def describe(self, options: Options, device: str) -> BackendInfo:
        """Reads the configs and hashes the weights; may download them if model_path is a hub id."""
        return self._describe(options, device)[0]

    def load(self, options: Options, device: str) -> BackendT:
        """The weights on `device`. Raises ModelFilesError, or InfrastructureError if there is no such device."""
        info, checkpoint = self._describe(options, device)
        return self._load(info, checkpoint, device)

    @abstractmethod
    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, CheckpointT]:
        """The description, and the checkpoint that it is of. Imports no torch."""

    @abstractmethod
    def _load(self, info: BackendInfo, checkpoint: CheckpointT, device: str) -> BackendT:
        """The backend of that description."""


def code_grid(codebooks: int, codebook_size: int, hop_length: int) -> tuple[Field, ...]:
    """The fields of a FrameBackend: codes [codebooks, frames], a frame per `hop_length` samples."""
    return (Field(name="tokens", form="codes", width=codebooks, codebook_size=codebook_size, samples_per_item=hop_length),)
