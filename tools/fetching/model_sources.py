"""Where each backend's files are published, which of them encoding needs, and their licences. Data only."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audio_tokenizers.errors import UsageError

__all__ = ["PARTS", "SOURCES", "ExtraFile", "Hub", "Licence", "ModelSource", "find_source"]

Hub = Literal["huggingface", "modelscope"]


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence of weights. `restriction` states what it forbids or demands; empty if no consent is needed."""

    name: str
    url: str
    restriction: str = ""


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file that is on no model hub."""

    path: str
    """In the model directory."""
    url: str
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """The published files of one backend or preset, or of one variant of it."""

    huggingface: str | None = None
    """Repository owner/name."""
    revision: str | None = None
    """Commit of the Hugging Face repository, if newer ones hold other files; None: its main branch."""
    modelscope: str | None = None
    files: tuple[str, ...] = ()
    """Paths in the repository that encoding needs."""
    optional: tuple[str, ...] = ()
    """Patterns of files that are fetched if they exist."""
    extra: tuple[ExtraFile, ...] = ()
    licences: tuple[Licence, ...] = ()
    size: float = 0
    """Approximate GB of all that is fetched."""
    note: str = ""

    @property
    def repository(self) -> str:
        """Its id on the preferred hub; empty: there is nothing to fetch."""
        return self.huggingface or self.modelscope or ""

    def repository_on(self, hub: Hub) -> str | None:
        """Its id on that hub; None if it is not known there."""
        return self.huggingface if hub == "huggingface" else self.modelscope

    @property
    def folder(self) -> str:
        """The default name of the files' directory."""
        return self.repository.rpartition("/")[2]


def _apache(card: str) -> Licence:
    return Licence("Apache-2.0", f"https://huggingface.co/{card}")


HIGGS = "bosonai/higgs-audio-v2-tokenizer"
HIGGS_LICENCE = Licence(
    "Boson Higgs Audio 2 Community License",
    f"https://huggingface.co/{HIGGS}/blob/main/LICENSE",
    "products with more than 100,000 annual active users need a licence of their own from Boson AI",
)
SPARK = "SparkAudio/Spark-TTS-0.5B"
SPARK_LICENCE = Licence(
    "CC BY-NC-SA 4.0",
    "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "non-commercial use only, and what is derived from it under the same licence",
)
STEP = "stepfun-ai/Step-Audio-Tokenizer"
PARAFORMER = "dengcunqin/speech_paraformer-large_asr_nat-zh-cantonese-en-16k-vocab8501-online"
FUNASR_LICENCE = Licence(
    "FunASR Model License (the Paraformer in it: name it and its source)",
    "https://github.com/modelscope/FunASR/blob/main/MODEL_LICENSE",
)

WHISPER_COMMIT = "5e35893afc051eb175eb1ee35b78cc49e1cbb120"
WHISPER_TIKTOKEN = ExtraFile(
    "multilingual.tiktoken",
    f"https://raw.githubusercontent.com/openai/whisper/{WHISPER_COMMIT}/whisper/assets/multilingual.tiktoken",
    816730,
    "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126",
)
COSYVOICE_COMMIT = "ace7c47f41bbd303aa6bf1ea80e6f9fbd595cd40"
TIKTOKEN = "multilingual_zh_ja_yue_char_del.tiktoken"
COSYVOICE_TIKTOKEN = ExtraFile(
    TIKTOKEN,
    f"https://raw.githubusercontent.com/FunAudioLLM/CosyVoice/{COSYVOICE_COMMIT}/cosyvoice/tokenizer/assets/{TIKTOKEN}",
    907395,
    "747979631e813193436aabcff7c1c235d37de8097b71c563ec8b63b7a515c718",
)


def _transformers(repository: str, licence: Licence, size: float) -> ModelSource:
    """The files that save_pretrained writes."""
    return ModelSource(
        huggingface=repository,
        files=("config.json", "model.safetensors"),
        optional=("preprocessor_config.json",),
        licences=(licence,),
        size=size,
    )


def _cosyvoice(
    name: str, files: tuple[str, ...], size: float, *extra: ExtraFile, on_huggingface: bool = True
) -> ModelSource:
    return ModelSource(
        huggingface=f"FunAudioLLM/{name}" if on_huggingface else None,
        modelscope=f"iic/{name}",
        files=files,
        extra=extra,
        licences=(Licence("Apache-2.0", f"https://www.modelscope.cn/models/iic/{name}"),),
        size=size,
    )


SOURCES: Mapping[str, Mapping[str, ModelSource]] = {
    "mulaw": {"": ModelSource(note="mulaw has no weights: there is nothing to fetch")},
    "higgs": {
        "": ModelSource(
            huggingface=HIGGS,
            # Boson's own layout; main has since moved to transformers' class.
            revision="9d4988fbd4ad07b4cac3a5fa462741a41810dbec",
            files=("config.json", "model.pth"),
            licences=(HIGGS_LICENCE,),
            size=0.8,
        )
    },
    "step_audio": {
        "": ModelSource(
            huggingface=STEP,
            modelscope=STEP,
            files=(
                "linguistic_tokenizer.npy",
                "speech_tokenizer_v1.onnx",
                *(f"{PARAFORMER}/{name}" for name in ("model.pt", "am.mvn", "config.yaml")),
            ),
            # FunASR itself needs these.
            optional=tuple(f"{PARAFORMER}/{name}" for name in ("configuration.json", "tokens.*", "seg_dict")),
            licences=(_apache(STEP), FUNASR_LICENCE),
            size=1.4,
        )
    },
    "cosyvoice_s3": {
        "CosyVoice2-0.5B": _cosyvoice("CosyVoice2-0.5B", ("speech_tokenizer_v2.onnx",), 0.5),
        "CosyVoice-300M": _cosyvoice("CosyVoice-300M", ("speech_tokenizer_v1.onnx",), 0.5),
        "CosyVoice-300M-25Hz": _cosyvoice("CosyVoice-300M-25Hz", ("speech_tokenizer_v1.onnx",), 0.5, on_huggingface=False),
    },
    "bicodec": {
        "": ModelSource(
            huggingface=SPARK,
            modelscope=SPARK,
            files=(
                "config.yaml",
                "BiCodec/config.yaml",
                "BiCodec/model.safetensors",
                *(f"wav2vec2-large-xlsr-53/{name}" for name in ("config.json", "preprocessor_config.json")),
                "wav2vec2-large-xlsr-53/pytorch_model.bin",
            ),
            licences=(SPARK_LICENCE,),
            size=1.9,
        )
    },
    "mimi": {"": _transformers("kyutai/mimi", Licence("CC BY 4.0", "https://huggingface.co/kyutai/mimi"), 0.4)},
    "dac": {
        f"dac_{rate}khz": _transformers(
            f"descript/dac_{rate}khz",
            Licence("MIT", "https://github.com/descriptinc/descript-audio-codec/blob/main/LICENSE"),
            0.3,
        )
        for rate in (44, 24, 16)
    },
    "encodec": {
        "": _transformers(
            "facebook/encodec_24khz",
            Licence(
                "MIT, by its code's repository: the model card names none",
                "https://github.com/facebookresearch/encodec/blob/main/LICENSE",
            ),
            0.1,
        )
    },
    "xcodec": {
        "": _transformers(
            "hf-audio/xcodec-hubert-librispeech",
            Licence("MIT, by its code's repository: see the model card too", "https://github.com/zhenye234/xcodec"),
            0.8,
        )
    },
    "whisper_features": {"": _transformers("openai/whisper-large-v3", _apache("openai/whisper-large-v3"), 3.1)},
    "cosyvoice_text": {
        "CosyVoice-300M": _cosyvoice("CosyVoice-300M", ("cosyvoice.yaml", "llm.pt"), 1.2, WHISPER_TIKTOKEN),
        "CosyVoice-300M-25Hz": _cosyvoice(
            "CosyVoice-300M-25Hz", ("cosyvoice.yaml", "llm.pt"), 1.2, COSYVOICE_TIKTOKEN, on_huggingface=False
        ),
    },
}
"""Backend or preset -> variant -> source. The first variant is the default; the only one has no name."""

PARTS: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "taste": (("cosyvoice_text", "CosyVoice-300M"), ("whisper_features", None), ("cosyvoice_s3", "CosyVoice-300M")),
}
"""Preset that is made of several backends -> each of them and its variant. All lie below one folder."""


def find_source(name: str, variant: str | None) -> ModelSource:
    """The source of a variant. Raises UsageError with the known names and the nearest."""
    if name not in SOURCES:
        known = sorted({*SOURCES, *PARTS})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no source of files is known for {name!r}: there are {', '.join(known)}{hint}")
    variants = SOURCES[name]
    if variant is None:
        return next(iter(variants.values()))
    if variant not in variants or not variant:
        there = ", ".join(key for key in variants if key) or "none"
        raise UsageError(f"--variant {variant!r}: of {name} there are these variants: {there}")
    return variants[variant]
