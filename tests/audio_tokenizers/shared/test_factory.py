"""shared/factory.py: a checkpoint is described, and loaded, once; test_backend_contract.py has what factories promise."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from audio_tokenizers.base import BackendInfo, Options
from audio_tokenizers.mulaw import FACTORY, MuLaw
from audio_tokenizers.shared.factory import ModelFactory, code_grid
from audio_tokenizers.shared.options import OptionTable


class Factory(ModelFactory[str, MuLaw]):
    name = "model"
    options: ClassVar[OptionTable] = {"model_path": ("hub/id", "where")}

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, str]:
        self.calls.append(("describe", device))
        return FACTORY.describe({}, device), str(options["model_path"])

    def _load(self, info: BackendInfo, checkpoint: str, device: str) -> MuLaw:
        self.calls.append(("load", checkpoint, device))
        return MuLaw(info)


def test_files_are_read_once() -> None:
    """Describing loads nothing; loading describes once, and what is loaded has that description."""
    factory = Factory()
    info = factory.describe({"model_path": "/models/a"}, "cpu")
    assert factory.calls == [("describe", "cpu")]
    assert factory.load({"model_path": "/models/a"}, "cuda:1").info == info
    assert factory.calls[1:] == [("describe", "cuda:1"), ("load", "/models/a", "cuda:1")]


def test_the_fields_of_a_code_grid() -> None:
    """One key, with a frame per hop."""
    (field,) = code_grid(8, 1024, 960)
    said = (field.name, field.form, field.width, field.codebook_size, field.samples_per_item, field.lowest, field.items)
    assert said == ("tokens", "codes", 8, 1024, 960, 0, None)
    assert dataclasses.asdict(field)["dtype"] == ""
