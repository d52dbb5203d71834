"""speech_tokenizer_v1.onnx and _v2.onnx, the S3 tokenizers of CosyVoice: identifying a file, its mel, and onnxruntime.

Three published files share two names and one layout (a Whisper-like encoder and a quantizer): 50 Hz and 25 Hz with a
codebook of 4096 (v1), 25 Hz with finite scalar quantization (v2). So a file is identified by its content: a walk along its
protobuf fields skips the weights, needs no package, and does not read the 0.5 GB.
The field numbers are in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import InfrastructureError, ModelFilesError
from audio_tokenizers.shared.model_files import check_whole
from audio_tokenizers.shared.wording import counted, first_line

__all__ = ["MELS", "MEL_HOP", "OnnxEncoder", "S3Variant", "is_known_to_torch", "log_mel", "read_variant"]

MELS = 128
MEL_HOP = 160
"""Samples at 16 kHz per frame of the mel spectrogram."""
MEL_RATE = 100
FSQ_DIMENSIONS = 8
FSQ_LEVELS = 3
LAYERS = 6
"""Of v1 and v2; v3 has 12."""
IR_VERSION_FIRST = 0x08
"""What an ONNX model begins with: field 1, an integer."""
FIRST_WEIGHTS = ("onnx::Conv_1519", "encoders.conv1.weight", "onnx::Conv_2216")
"""The names by which s3tokenizer's loader knows the first convolution of the published files."""
EXPECTED = "expected speech_tokenizer_v1.onnx or speech_tokenizer_v2.onnx of CosyVoice"

Mel = npt.NDArray[np.float32]
"""float32 [128, frames]."""


@dataclass(frozen=True, slots=True)
class S3Variant:
    """Which S3 tokenizer a file holds."""

    version: Literal["v1", "v2"]
    rate: Literal[25, 50]
    """Tokens per second."""
    codebook_size: Literal[4096, 6561]


def read_variant(path: Path) -> S3Variant:
    """Which S3 tokenizer the ONNX file at `path` holds. Raises ModelFilesError if it is missing, cut or something else."""
    return _recognise(_open_graph(path), path)


def is_known_to_torch(path: Path) -> bool:
    """Whether s3tokenizer can read the weights in the file: another export of the same graph has other names."""
    shapes = _open_graph(path).shapes
    return any(name in shapes for name in FIRST_WEIGHTS)


def _open_graph(path: Path) -> _Graph:
    if not path.is_file():
        raise ModelFilesError(f"{path}: missing: {EXPECTED}")
    check_whole(path)
    with path.open("rb") as file:
        # Not closed: an error's traceback may hold slices of it.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _read_graph(data)
    except _CutError:
        raise ModelFilesError(
            f"{path}: cut after {counted(len(data), 'byte')}, what it announces does not fit in: download it again"
        ) from None
    except ValueError:
        raise ModelFilesError(f"{path}: {EXPECTED}, found no ONNX model (it begins with {bytes(data[:8])!r})") from None


def _recognise(graph: _Graph, path: Path) -> S3Variant:
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    shapes = [graph.shapes.get(node.inputs[1], ()) if len(node.inputs) > 1 else () for node in convolutions]
    width = shapes[0][0] if shapes and shapes[0] else 0
    if shapes[:2] != [(width, MELS, 3), (width, width, 3)]:
        found = ", ".join(str(list(shape)) for shape in shapes[:2]) or "none"
        raise ModelFilesError(
            f"{path}: {EXPECTED}, which begins with convolutions [width, 128, 3] and [width, width, 3]; found {found}"
        )
    # strides default to 1 (ONNX operators, Conv).
    strides = [node.strides[0] if node.strides else 1 for node in convolutions[:2]]
    if (strides[0], strides[1]) not in ((1, 2), (2, 2)):
        raise ModelFilesError(f"{path}: {EXPECTED}, whose convolutions have strides 1 and 2 or 2 and 2; found {strides}")
    rate = cast("Literal[25, 50]", MEL_RATE // (strides[0] * strides[1]))
    quantizer = _quantizer_shapes(graph)
    layers = len({node.name.split("/")[1] for node in graph.nodes if node.name.startswith("/blocks.")})
    if (width, 4096) in quantizer:
        return S3Variant("v1", rate, 4096)
    if (width, FSQ_DIMENSIONS) in quantizer and (FSQ_DIMENSIONS,) in quantizer:
        normed = any(node.op_type == "LayerNormalization" for node in graph.nodes)
        if layers > LAYERS or not normed or rate != 25:
            raise ModelFilesError(
                f"{path}: {EXPECTED}; found finite scalar quantization behind {layers} layers at {rate} Hz, as in "
                "speech_tokenizer_v3.onnx of Fun-CosyVoice3, which this backend does not know"
            )
        return S3Variant("v2", 25, 6561)
    raise ModelFilesError(
        f"{path}: {EXPECTED}, with a codebook [{width}, 4096] (v1) or a projection [{width}, 8] (v2); "
        f"found a quantizer of {', '.join(str(list(shape)) for shape in sorted(quantizer)) or 'no weights'}"
    )


def _quantizer_shapes(graph: _Graph) -> set[tuple[int, ...]]:
    """Shapes of the weights that nodes of the quantizer take; it follows the blocks and has a name of its own."""
    return {
        graph.shapes[name]
        for node in graph.nodes
        if "quantizer" in node.name
        for name in node.inputs
        if graph.shapes.get(name)
    }


class OnnxEncoder:
    """An S3 tokenizer in onnxruntime, as CosyVoice's and Step-Audio's own tools run it: one piece at a time."""

    def __init__(self, path: Path, device: str, *, tf32: bool = False) -> None:
        """One thread on the CPU, as upstream. Raises ModelFilesError, or InfrastructureError if `device` cannot be used."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = 1
        # Warnings about nodes that stay on the CPU help no one.
        options.log_severity_level = 3
        self._device = device
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise InfrastructureError(
                    f"device {device!r}: onnxruntime {onnxruntime.__version__} has no CUDA: pip uninstall onnxruntime, "
                    "pip install onnxruntime-gpu"
                )
            # The default, EXHAUSTIVE, picks kernels by their speed on the day.
            cuda = {
                "device_id": device.partition(":")[2] or "0",
                "use_tf32": "1" if tf32 else "0",
                "cudnn_conv_algo_search": "DEFAULT",
            }
            providers.insert(0, ("CUDAExecutionProvider", cuda))
        try:
            self._session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no base of their own
            raise self._machine_trouble(error) or ModelFilesError(
                f"{path}: onnxruntime cannot load it: download it again ({first_line(error)})"
            ) from None
        if device.startswith("cuda") and "CUDAExecutionProvider" not in self._session.get_providers():
            # It falls back to the CPU with no more than a warning.
            raise InfrastructureError(
                f"device {device!r}: onnxruntime {onnxruntime.__version__} could not start CUDA: do the versions of CUDA "
                "and cuDNN suit it, and has this job a GPU?"
            )
        self._inputs = [value.name for value in self._session.get_inputs()]
        if len(self._inputs) != 2:
            raise ModelFilesError(
                f"{path}: {EXPECTED}, with a mel spectrogram and its length as inputs; found {self._inputs}"
            )

    def encode(self, mel: Mel) -> npt.NDArray[np.integer[Any]]:
        """float32 [128, frames], of at most 30 s -> integers [tokens]. Raises InfrastructureError."""
        feeds = {self._inputs[0]: mel[None], self._inputs[1]: np.array([mel.shape[1]], np.int32)}
        try:
            tokens: npt.NDArray[np.integer[Any]] = self._session.run(None, feeds)[0]
        except Exception as error:
            trouble = self._machine_trouble(error)
            if trouble is None:
                raise
            raise trouble from None
        return tokens.flatten()

    def _machine_trouble(self, error: Exception) -> InfrastructureError | None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(
            words in text for words in ("allocate memory", "bad_alloc", "out of memory")
        ):
            return InfrastructureError(f"out of memory on {self._device} ({first_line(error)})")
        if self._device.startswith("cuda") and any(words in text for words in ("cuda", "cudnn", "cublas")):
            return InfrastructureError(f"CUDA failed on {self._device} ({first_line(error)})")
        return None


def log_mel(wave: Waveform) -> Mel:
    """float32 [samples] at 16 kHz, over 200 of them -> float32 [128, samples // 160], by openai-whisper, on the CPU.

    Its floor is 8 (80 dB) below the loudest bin of `wave`, so a piece of a clip has another one than the whole clip.
    """
    import torch
    import whisper

    # With a batch axis, as upstream: a batched product may round otherwise than a plain one.
    with torch.inference_mode():
        mel: Mel = whisper.log_mel_spectrogram(torch.from_numpy(wave)[None], n_mels=MELS)[0].numpy()
    return mel


class _CutError(Exception):
    """A field announces more bytes than there are."""


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    op_type: str
    inputs: tuple[str, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Graph:
    nodes: Sequence[_Node]
    shapes: dict[str, tuple[int, ...]]
    """Initializer -> its dimensions."""


def _read_graph(model: memoryview) -> _Graph:
    if model[0] != IR_VERSION_FIRST:
        raise ValueError("an ONNX model begins with its ir_version")
    nodes, shapes = [], {}
    for graph in (_bytes(value) for number, value in _fields(model) if number == 7):
        for number, value in _fields(graph):
            if number == 1:
                nodes.append(_read_node(_bytes(value)))
            elif number == 5:
                name, shape = _read_tensor(_bytes(value))
                shapes[name] = shape
    return _Graph(nodes, shapes)


def _read_node(node: memoryview) -> _Node:
    fields = list(_fields(node))
    strides: tuple[int, ...] = ()
    for number, value in fields:
        if number == 5:
            attribute = list(_fields(_bytes(value)))
            if any(number == 1 and _text(name) == "strides" for number, name in attribute):
                strides = _integers(attribute, 8)
    texts = {wanted: [_text(value) for number, value in fields if number == wanted] for wanted in (1, 3, 4)}
    return _Node(name="".join(texts[3]), op_type="".join(texts[4]), inputs=tuple(texts[1]), strides=strides)


def _read_tensor(tensor: memoryview) -> tuple[str, tuple[int, ...]]:
    fields = list(_fields(tensor))
    return "".join(_text(value) for number, value in fields if number == 8), _integers(fields, 1)


def _integers(fields: Sequence[tuple[int, int | memoryview]], wanted: int) -> tuple[int, ...]:
    """A repeated integer field, which writers may pack or not."""
    found: list[int] = []
    for number, value in fields:
        if number == wanted and isinstance(value, int):
            found.append(value)
        elif number == wanted:
            packed, position = _bytes(value), 0
            while position < len(packed):
                integer, position = _varint(packed, position)
                found.append(integer)
    return tuple(found)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field: https://protobuf.dev/programming-guides/encoding. ValueError if it is no message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire_type == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(message):
            raise _CutError
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _CutError
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise ValueError("an integer of over 64 bits")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer where a message or string should be")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()
