"""Text embedding of CosyVoice 1: for each token of a clip's transcript, its row in the language model's table.

The reference is the frontend and language model of github.com/FunAudioLLM/CosyVoice: `llm.text_embedding` applied to
`frontend._extract_text_token` of a transcript. Only that table of the model is read; the audio is not used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Audio, BackendInfo, Batching, Field, Options, Utterance, Values, Waveform
from audio_tokenizers.cosyvoice_text.files import NOT_LATER, Checkpoint, open_checkpoint
from audio_tokenizers.errors import ClipError, ModelFilesError, UsageError
from audio_tokenizers.shared.factory import ModelFactory
from audio_tokenizers.shared.file_hashes import files_sha256
from audio_tokenizers.shared.options import OptionTable, check_device_name, model_path_of
from audio_tokenizers.shared.resampling import soxr_resample
from audio_tokenizers.shared.torch_device import on_device, package_versions
from audio_tokenizers.shared.weights import Naming, Weights
from audio_tokenizers.shared.wording import shown

__all__ = ["FACTORY", "CosyVoiceText", "CosyVoiceTextFactory"]

PACKAGES = ("torch", "tiktoken")
SAMPLE_RATE = 16000
TABLE = "text_embedding.weight"
EMBEDDING = Naming(
    parts=("text_embedding",),
    # The rest of upstream's TransformerLM.
    unneeded=r"(text_encoder|text_encoder_affine_layer|llm_embedding|llm|llm_decoder|speech_embedding|"
    r"spk_embed_affine_layer)\.",
)
LATER = re.compile(r"(.*\.)?llm\.model\.")
"""Prefix of the keys in CosyVoice 2 and 3, whose language model is Qwen."""


class CosyVoiceText:
    """The loaded table, in host memory for any device: a lookup gains nothing on a GPU."""

    resampler = "soxr HQ"
    """Parts of a combination with the same `resampler` share the resampled audio."""

    def __init__(self, info: BackendInfo, checkpoint: Checkpoint) -> None:
        self.info = info
        self._encoding = checkpoint.vocabulary.encoding()
        self._table = on_device("cpu", lambda: _read_table(checkpoint))

    def resample(self, wave: Waveform, sample_rate: int) -> Audio:
        """Resample to 16 kHz with soxr's HQ filter; only the length is used."""
        return soxr_resample(wave, sample_rate, SAMPLE_RATE, "HQ")

    def encode_clips(self, clips: Sequence[Utterance]) -> list[Values]:
        """For each clip `text_tokens`, int32 [tokens], and `text_embedding`, float32 [tokens, width].

        The transcript is used unchanged; special tokens in it, such as <|en|>, are one token each. ClipError of kind
        `no_text` if it is missing or blank.
        """
        return [self._encode_text(clip.text) for clip in clips]

    def _encode_text(self, text: str | None) -> Values:
        if text is None or not text.strip():
            raise ClipError("no_text", "the transcript is empty" if text is not None else "there is no transcript")
        tokens = np.array(self._encoding.encode(text, allowed_special="all"), np.int32)
        return {"text_tokens": tokens, "text_embedding": self._table[tokens]}


def _read_table(checkpoint: Checkpoint) -> npt.NDArray[np.float32]:
    """float32 [rows, width] from llm.pt; nothing else of it is read from disk."""
    import torch

    weights = Weights([checkpoint.weights], EMBEDDING, str(checkpoint.config)).read()
    if TABLE not in weights.tensors and any(LATER.match(name) for name in weights.names):
        raise ModelFilesError(
            f"{checkpoint.weights}: expected the tensor {TABLE} of CosyVoice 1, found those of CosyVoice 2 or 3. {NOT_LATER}"
        )
    with torch.device("meta"):
        model = torch.nn.ModuleDict({"text_embedding": torch.nn.Embedding(checkpoint.rows, checkpoint.width)})
    weights.fill(model)
    table: npt.NDArray[np.float32] = weights.tensors[TABLE].numpy()
    return table


class CosyVoiceTextFactory(ModelFactory[Checkpoint, CosyVoiceText]):
    """Describes and loads the text embedding of CosyVoice 1."""

    name = "cosyvoice_text"
    uses_gpu = False
    options: ClassVar[OptionTable] = {
        "model_path": ("FunAudioLLM/CosyVoice-300M", "directory with cosyvoice.yaml and llm.pt, or hub id"),
        "tokenizer_path": (None, "the .tiktoken file; null looks in the directory, then in openai-whisper"),
    }

    def _load(self, info: BackendInfo, checkpoint: Checkpoint, device: str) -> CosyVoiceText:
        return CosyVoiceText(info, checkpoint)

    def _describe(self, options: Options, device: str) -> tuple[BackendInfo, Checkpoint]:
        model_path, tokenizer_path = model_path_of(options), options["tokenizer_path"]
        if tokenizer_path is not None and (not isinstance(tokenizer_path, str) or not tokenizer_path):
            raise UsageError(f"tokenizer_path: expected a file or null, found {shown(tokenizer_path, 'null')}")
        check_device_name(device)
        checkpoint = open_checkpoint(model_path, tokenizer_path)
        info = BackendInfo(
            name=self.name,
            sample_rate=SAMPLE_RATE,
            hop_length=1,
            fields=(
                Field(name="text_tokens", form="list", codebook_size=checkpoint.rows),
                Field(name="text_embedding", form="features", width=checkpoint.width, dtype="float32"),
            ),
            mono="mean",
            min_samples=1,
            kind="clips",
            max_tokens_per_fragment=None,
            # A lookup takes microseconds, alone or in a batch.
            batching=Batching.SINGLE,
            max_batch=1,
            needs_text=True,
            recipe={
                "weights_sha256": files_sha256([checkpoint.weights]),
                "tokenizer_sha256": files_sha256([checkpoint.tokenizer]),
                "vocabulary": checkpoint.vocabulary.name,
                "num_languages": checkpoint.languages,
                "allowed_special": "all",
                "text_normalization": "none",
                "dtype": "float32",
                **package_versions(PACKAGES, "cosyvoice_text"),
            },
        )
        return info, checkpoint


FACTORY = CosyVoiceTextFactory()
