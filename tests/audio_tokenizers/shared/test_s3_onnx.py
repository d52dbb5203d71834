from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.golden_audio import Pcm, pcm, silence, square, wave
from support.tiny_s3 import build_s3_onnx

from audio_tokenizers.errors import InfrastructureError, ModelFilesError
from audio_tokenizers.shared.s3_onnx import OnnxEncoder, S3Variant, log_mel, read_variant

VARIANTS: dict[S3Variant, tuple[Literal["v1", "v2"], Literal[25, 50]]] = {
    S3Variant("v1", 25, 4096): ("v1", 25),
    S3Variant("v1", 50, 4096): ("v1", 50),
    S3Variant("v2", 25, 6561): ("v2", 25),
}


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_s3_onnx(tmp_path_factory.mktemp("v1") / "speech_tokenizer_v1.onnx", width=64, layers=1)


def convolution(path: Path, width: int = 32) -> Path:
    """A sound ONNX model of something else."""
    weight = numpy_helper.from_array(np.ones((width, 80, 3), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"], name="/conv1/Conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 80, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width, "N"])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("name", ["speech_tokenizer_v1.onnx", "speech_tokenizer_v2.onnx", "v1_25hz/model.onnx"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_variant_is_recognised_by_contents(tmp_path: Path, variant: S3Variant, name: str) -> None:
    """Two published files share a name and differ in rate, so names, of folders too, say nothing."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    version, rate = VARIANTS[variant]
    assert read_variant(build_s3_onnx(path, version, rate, width=64, layers=1)) == variant


@pytest.mark.parametrize("packed", [True, False])
def test_integers_are_read_packed_or_not(tmp_path: Path, packed: bool) -> None:
    """Writers of protobuf do either: proto2's one by one, proto3's all together."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def block(number: int, *parts: bytes | str) -> bytes:
        data = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
        return varint(number << 3 | 2) + varint(len(data)) + data

    def integers(number: int, *values: int) -> bytes:
        written = [varint(value) for value in values]
        return block(number, *written) if packed else b"".join(varint(number << 3) + value for value in written)

    def node(op: str, name: str, weight: str, *attributes: bytes) -> bytes:
        return block(1, block(1, "x"), block(1, weight), block(3, name), block(4, op), *(block(5, a) for a in attributes))

    def tensor(name: str, *shape: int) -> bytes:
        return block(5, integers(1, *shape), block(8, name), block(9, bytes(400)))

    strides = block(1, "strides") + integers(8, 2)
    nodes = [node("Conv", f"/conv{i}/Conv", f"w{i}", block(1, "pads") + integers(8, 1, 1), strides) for i in (1, 2)]
    nodes.append(node("MatMul", "/quantizer/MatMul", "embed"))
    tensors = [tensor("w1", 4, 128, 3), tensor("w2", 4, 4, 3), tensor("embed", 4, 4096)]
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes([0x08, 0x08]) + block(7, *nodes, *tensors))
    assert read_variant(path) == S3Variant("v1", 25, 4096)


def test_the_walk_needs_no_packages(v1: Path) -> None:
    """A login node may have neither onnx nor torch."""
    script = (
        "import sys, pathlib; from audio_tokenizers.shared.s3_onnx import read_variant; "
        f"print(read_variant(pathlib.Path({str(v1)!r})).rate, 'onnx' in sys.modules, 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONPATH": "tokenizers"},
    )
    assert done.stdout.split() == ["25", "False", "False"]


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.9999])
def test_a_cut_file_is_said_to_be_cut(tmp_path: Path, v1: Path, kept: float) -> None:
    """Wherever the download stopped, before onnxruntime sees the file."""
    data = v1.read_bytes()
    path = tmp_path / "speech_tokenizer_v1.onnx"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelFilesError, match=r"speech_tokenizer_v1\.onnx: cut after [\d,]+ bytes"):
        read_variant(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs"),
        (b"PK\x03\x04" + bytes(100), "no ONNX model"),
        (b"<html>404</html>", "no ONNX model"),
        (b"\x08\x08\x07\x07\x07", "no ONNX model"),
    ],
)
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    """With words for what it is instead."""
    path = tmp_path / "speech_tokenizer_v1.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFilesError, match=words):
        read_variant(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what should be there."""
    with pytest.raises(ModelFilesError, match=r"v1\.onnx: missing: expected speech_tokenizer"):
        read_variant(tmp_path / "v1.onnx")


def test_other_models_are_refused(tmp_path: Path) -> None:
    """A sound ONNX file of another network says which convolution was expected, and which found."""
    with pytest.raises(ModelFilesError, match=r"\[width, 128, 3\].*found \[32, 80, 3\]"):
        read_variant(convolution(tmp_path / "campplus.onnx"))


def test_v3_is_refused_by_name(tmp_path: Path) -> None:
    """speech_tokenizer_v3 has v2's quantizer behind twice the layers: it must not pass for v2."""
    with pytest.raises(ModelFilesError, match=r"12 layers.*speech_tokenizer_v3\.onnx"):
        read_variant(build_s3_onnx(tmp_path / "speech_tokenizer_v2.onnx", "v2", width=64, layers=12))


@pytest.mark.parametrize("audio", [pcm(201), pcm(480), pcm(16001, 5), silence(4000), square(4000), pcm(480000)], ids=len)
def test_the_mel_is_whispers(audio: Pcm) -> None:
    """Bit for bit, with one frame per 160 samples."""
    import torch
    import whisper

    mel = log_mel(wave(audio))
    assert mel.dtype == np.float32
    assert mel.shape == (128, len(audio) // 160)
    assert np.array_equal(mel, whisper.log_mel_spectrogram(torch.from_numpy(wave(audio)), n_mels=128).numpy())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_encoder_gives_as_many_tokens_as_its_rate_says(tmp_path: Path, variant: S3Variant) -> None:
    """Each halving rounds up."""
    version, rate = VARIANTS[variant]
    encoder = OnnxEncoder(build_s3_onnx(tmp_path / "model.onnx", version, rate, width=64, layers=1), "cpu")
    for frames in (1, 2, 3, 4, 5, 7, 100, 103):
        tokens = encoder.encode(log_mel(wave(pcm(frames * 160 + 100))))
        first = math.ceil(frames / 2) if rate == 25 else frames
        assert tokens.shape == (math.ceil(first / 2),)
        assert 0 <= tokens.min() <= tokens.max() < variant.codebook_size


def test_a_file_that_onnxruntime_refuses_is_named(tmp_path: Path, v1: Path) -> None:
    """read_variant looks at the shape of things only."""
    model = onnx.load(v1)
    model.graph.node[5].op_type = "NoSuchOperator"
    path = tmp_path / "speech_tokenizer_v1.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelFilesError, match=r"speech_tokenizer_v1\.onnx: onnxruntime cannot load it"):
        OnnxEncoder(path, "cpu")


def test_a_model_of_one_input_is_refused(tmp_path: Path) -> None:
    """The length is the second input."""
    with pytest.raises(ModelFilesError, match="its length"):
        OnnxEncoder(convolution(tmp_path / "model.onnx"), "cpu")


@pytest.mark.parametrize(
    ("providers", "words"), [((), "onnxruntime-gpu"), (("CUDAExecutionProvider",), "could not start CUDA")]
)
def test_onnxruntime_never_falls_back_to_the_cpu(
    v1: Path, monkeypatch: pytest.MonkeyPatch, providers: tuple[str, ...], words: str
) -> None:
    """It would go on with a warning, tens of times slower, on a node that has a GPU to give."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers, "CPUExecutionProvider"])
    with pytest.raises(InfrastructureError, match=words):
        OnnxEncoder(v1, "cuda:0")


@pytest.mark.parametrize(
    ("message", "device", "kind"),
    [
        ("Failed to allocate memory for requested buffer of size 4", "cpu", InfrastructureError),
        ("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", "cuda", InfrastructureError),
        ("Got invalid dimensions for input: feats", "cpu", ValueError),
    ],
)
def test_trouble_of_the_machine_is_told_from_bad_data(v1: Path, message: str, device: str, kind: type[Exception]) -> None:
    """Out of memory and a broken GPU must not become records."""

    class Broken:
        def run(self, *_: object) -> None:
            raise ValueError(message)

    encoder = OnnxEncoder(v1, "cpu")
    encoder._session = Broken()
    encoder._device = device
    with pytest.raises(kind, match=message.partition(":")[0]):
        encoder.encode(log_mel(wave(pcm(480))))
