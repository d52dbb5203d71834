"""engine=upstream of higgs: boson-multimodal's own code (github.com/boson-ai/higgs-audio), clip by clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from audio_tokenizers.base import BackendInfo, Codes, Waveform
from audio_tokenizers.errors import ClipError, ModelFilesError, UsageError
from audio_tokenizers.higgs.files import Checkpoint
from audio_tokenizers.higgs.weights import UNNEEDED
from audio_tokenizers.shared.extras import is_installed
from audio_tokenizers.shared.torch_device import fix_arithmetic, loaded, on_device

__all__ = ["BOSON", "HiggsUpstream", "require_boson"]

BOSON = "boson-multimodal"
TEACHERS = {"hubert_base": "facebook/hubert-base-ls960", "hubert_base_general": "bosonai/hubert_base"}
"""`semantic_techer` of config.json -> what boson's constructor loads from the hub's cache first, though the checkpoint has
its weights."""
INSTALL = (
    "pip install -e '.[higgs_upstream]', then pip install --no-deps -r requirements/boson.txt, in the folder of tar2tokens"
)


def require_boson(checkpoint: Checkpoint) -> None:
    """Raise UsageError unless boson's code is here, and can read the checkpoint. Imports nothing of it."""
    if not is_installed(BOSON):
        raise UsageError(f"engine=upstream of higgs needs {BOSON}: {INSTALL}")
    if checkpoint.layout != "original":
        raise UsageError(
            f"{checkpoint.directory}: engine=upstream reads the original layout (config.json, model.pth), and this is that "
            "of transformers: take bosonai/higgs-audio-v2-tokenizer, or engine=own"
        )


class HiggsUpstream:
    """Boson's tokenizer on one device. A FrameBackend."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> None:
        self.info = info
        self._device = device
        self._model = loaded(device, lambda: _load(checkpoint, device))

    def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
        """One int16 array [codebooks, frames] per waveform; one waveform per call."""
        for wave in waves:
            if len(wave) < self.info.min_samples:
                raise ClipError("too_short", f"{len(wave)} samples, the Higgs tokenizer needs {self.info.min_samples}")
        fix_arithmetic(tf32=bool(self.info.recipe["tf32"]))
        return [on_device(self._device, lambda wave=wave: self._encode(wave)) for wave in waves]  # type: ignore[misc]

    def _encode(self, wave: Waveform) -> Codes:
        codes: Codes = self._model.encode(wave, sr=self.info.sample_rate).to("cpu").numpy().astype(np.int16)
        return codes


def _load(checkpoint: Checkpoint, device: str) -> Any:  # noqa: ANN401 - boson's code has no types
    import torch

    try:
        from boson_multimodal.audio_processing.higgs_audio_tokenizer import load_higgs_audio_tokenizer
    except ImportError as error:
        raise UsageError(f"engine=upstream of higgs cannot import {BOSON} ({error}): {INSTALL}") from error
    try:
        model: Any = load_higgs_audio_tokenizer(str(checkpoint.directory), device=device)
    except OSError as error:
        if error.errno is not None:
            raise
        # transformers' own words, which need not name the repository.
        teacher = TEACHERS[str(checkpoint.config.get("semantic_techer", "hubert_base_general"))]
        raise UsageError(
            f"engine=upstream of higgs: {BOSON} loads {teacher} too, which is not in the hub's cache (HF_HOME): hf download "
            f"{teacher}, where there is a network ({str(error).splitlines()[0]})"
        ) from error
    # Its loader ignores what is missing, and would go on with random weights.
    state = torch.load(checkpoint.weights[0], map_location=device, weights_only=True)
    unneeded = re.compile(UNNEEDED["original"])
    missing = [name for name in model.load_state_dict(state, strict=False).missing_keys if not unneeded.match(name)]
    if missing:
        raise ModelFilesError(
            f"{checkpoint.weights[0]}: boson-multimodal does not find {missing[0]} in it"
            f"{f', nor {len(missing) - 1} others' if len(missing) > 1 else ''}: download it again, or take engine=own"
        )
    return model.eval()
