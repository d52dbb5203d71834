"""S3 tokenizers of random weights, in the layout of the published speech_tokenizer_v1.onnx and _v2.onnx.

The operators are those of the real graphs, and the initializers and nodes bear the names that s3tokenizer's onnx2torch
looks for in the real files. Only width and depth differ, and at 1280 and 6 not even those. Same arguments, same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["build_s3_onnx", "initializers_sha256"]

Array = npt.NDArray[Any]

MELS = 128
HEAD = 64
POSITIONS = 1500
FSMN_KERNEL = 31
CONV_GAIN = 10.0
"""With balanced weights: the level of speech, which all mel bins share, would else drown what tells frames apart."""
ATTENTION_GAIN = 2.0
"""Attention that picks, so that a token depends on frames far away."""
CONV_NAMES = {
    ("v1", 50): ("onnx::Conv_1519", "onnx::Conv_1520", "onnx::Conv_1521", "onnx::Conv_1522"),
    ("v1", 25): ("encoders.conv1.weight", "encoders.conv1.bias", "encoders.conv2.weight", "encoders.conv2.bias"),
    ("v2", 25): ("onnx::Conv_2216", "onnx::Conv_2217", "onnx::Conv_2218", "onnx::Conv_2219"),
}


def build_s3_onnx(
    path: Path,
    version: Literal["v1", "v2"] = "v1",
    rate: Literal[25, 50] = 25,
    seed: int = 0,
    *,
    width: int = 128,
    layers: int = 2,
) -> Path:
    """Write the model to `path`; `width` is a multiple of 64, which is a head's. The published ones have 1280 and 6."""
    graph = _Graph(seed)
    hidden = _Encoder(graph, version, width).run(CONV_NAMES[version, rate], 4 // (rate // 25) // 2, layers)
    indices = _codebook(graph, hidden, width) if version == "v1" else _finite_scalars(graph, hidden, width)
    inputs = [
        helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, MELS, "T"]),
        helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1]),
    ]
    outputs = [helper.make_tensor_value_info(indices, TensorProto.INT32, [1, "N"])]
    proto = helper.make_graph(graph.nodes, "main_graph", inputs, outputs, graph.initializers)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="pytorch")
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def initializers_sha256(path: Path) -> str:
    """Hex SHA-256 of the random weights in the file: the graph beside them may be spelt by any version of onnx."""
    digest = hashlib.sha256()
    for tensor in onnx.load(path).graph.initializer:
        digest.update(tensor.name.encode())
        digest.update(numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


class _Graph:
    """Nodes in order, with constants as nodes of their own, as torch's exporter writes them."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = f"{name}_output_0"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: type[np.generic] = np.float32) -> str:
        output = f"{name}_output_0"
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        self.nodes.append(helper.make_node("Constant", [], [output], name=name, value=tensor))
        return output

    def weight(
        self, name: str, shape: Sequence[int], *, scale: float, mean: float = 0.0, balanced: int | None = None
    ) -> str:
        """An initializer of random numbers. Along the axis `balanced` each stands beside its negative."""
        shape = list(shape)
        if balanced is not None:
            shape[balanced] //= 2
        values = self._generator.standard_normal(tuple(shape)) * scale + mean
        if balanced is not None:
            values = np.stack([values, -values], axis=balanced + 1)
            values = values.reshape([size * 2 if axis == balanced else size for axis, size in enumerate(shape)])
        self.initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def scaled(self, name: str, value: str, op: str, operand: Any, dtype: type[np.generic] = np.float32) -> str:
        """`value` op a constant."""
        return self.node(op, name, value, self.constant(f"{name}_Constant", operand, dtype))

    def reshaped(self, name: str, value: str, shape: Sequence[int]) -> str:
        return self.node("Reshape", name, value, self.constant(f"{name}_Constant", shape, np.int64))

    def linear(self, name: str, value: str, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> str:
        stem = name.strip("/").replace("/", ".")
        weight = self.weight(f"onnx::MatMul_{stem}", (inputs, outputs), scale=gain * inputs**-0.5)
        product = self.node("MatMul", f"{name}/MatMul", value, weight)
        if not bias:
            return product
        return self.node("Add", f"{name}/Add", self.weight(f"{stem}.bias", (outputs,), scale=0.1), product)

    def gelu(self, name: str, value: str) -> str:
        erf = self.node("Erf", f"{name}/Erf", self.scaled(f"{name}/Div", value, "Div", np.sqrt(2.0)))
        doubled = self.node("Mul", f"{name}/Mul", value, self.scaled(f"{name}/Add", erf, "Add", 1.0))
        return self.scaled(f"{name}/Mul_1", doubled, "Mul", 0.5)


class _Encoder:
    """Two convolutions and the blocks, in the words of s3tokenizer's AudioEncoder (v1) and AudioEncoderV2."""

    def __init__(self, graph: _Graph, version: Literal["v1", "v2"], width: int) -> None:
        self._graph = graph
        self._version = version
        self._width = width

    def run(self, names: Sequence[str], stride: int, layers: int) -> str:
        """Hidden states [1, tokens, width]."""
        graph = self._graph
        length = graph.node("Cast", "/Cast", "feats_length", to=TensorProto.INT64)
        value = "feats"
        inputs = MELS
        for index, step in ((1, stride), (2, 2)):
            mask = graph.node("Unsqueeze", f"/Unsqueeze_{index}", self._mask(f"/mask{index}", value, length, axis=2), "/one")
            masked = graph.node("Mul", f"/Mul_{index}", value, mask)
            weight, bias = names[2 * index - 2 : 2 * index]
            graph.weight(weight, (self._width, inputs, 3), scale=CONV_GAIN * (inputs * 3) ** -0.5, balanced=1)
            graph.weight(bias, (self._width,), scale=0.1)
            attributes = {"dilations": [1], "group": 1, "kernel_shape": [3], "pads": [1, 1], "strides": [step]}
            value = graph.node("Conv", f"/conv{index}/Conv", masked, weight, bias, **attributes)
            value = graph.gelu(f"/gelu{index}", value)
            inputs = self._width
            length = graph.scaled(f"/Sub_{index}", length, "Sub", 1, np.int64)
            length = graph.scaled(f"/Div_{index}", length, "Div", step, np.int64)
            length = graph.scaled(f"/Add_{index}", length, "Add", 1, np.int64)
        value = graph.node("Transpose", "/Transpose", value, perm=[0, 2, 1])
        mask = self._mask("/mask3", value, length, axis=1)
        inverse = graph.node("Sub", "/Sub_mask", graph.constant("/mask_one", 1.0), mask)
        bias = graph.reshaped("/bias", graph.scaled("/Mul_mask", inverse, "Mul", -1.0e10), (1, 1, 1, -1))
        frames = graph.reshaped("/frames", mask, (1, -1, 1))
        if self._version == "v1":
            positions = graph.weight("encoders.positional_embedding", (POSITIONS, self._width), scale=0.3)
            value = graph.node("Add", "/Add_positions", value, self._first_rows("/Slice", positions, value))
        rotation = self._rotation(value) if self._version == "v2" else None
        for index in range(layers):
            value = self._block(f"/blocks.{index}", value, bias, frames, rotation)
        return value

    def _mask(self, name: str, value: str, length: str, axis: int) -> str:
        """Ones [1, frames] up to `length`, zeros behind; frames is the size of `value` along `axis`."""
        graph = self._graph
        if name == "/mask1":
            graph.nodes.append(
                helper.make_node("Constant", [], ["/one"], value=numpy_helper.from_array(np.array([1], np.int64)))
            )
        size = self._size(name, value, axis)
        start, step = (graph.constant(f"{name}/{word}", number, np.int64) for word, number in (("start", 0), ("step", 1)))
        positions = graph.node("Range", f"{name}/Range", start, size, step)
        inside = graph.node("Less", f"{name}/Less", positions, graph.reshaped(f"{name}/length", length, (1, 1)))
        return graph.node("Cast", f"{name}/Cast", inside, to=TensorProto.FLOAT)

    def _size(self, name: str, value: str, axis: int) -> str:
        graph = self._graph
        shape = graph.node("Shape", f"{name}/Shape", value)
        return graph.node("Gather", f"{name}/Gather", shape, graph.constant(f"{name}/axis", axis, np.int64))

    def _first_rows(self, name: str, rows: str, value: str) -> str:
        """As many rows of the table as `value` has frames."""
        graph = self._graph
        stop = graph.reshaped(f"{name}/stop", self._size(name, value, 1), (1,))
        return graph.node("Slice", name, rows, graph.constant(f"{name}/start", [0], np.int64), stop)

    def _rotation(self, value: str) -> tuple[str, str]:
        """Cosine and sine [1, tokens, 1, 64] of v2's rotary positions, from the table that s3tokenizer computes."""
        from s3tokenizer.model_v2 import precompute_freqs_cis

        table = precompute_freqs_cis(HEAD, 2048)
        parts = []
        for word, values in (("cos", table.real), ("sin", table.imag)):
            rows = self._first_rows(f"/{word}", self._graph.constant(f"/{word}_table", values.numpy()), value)
            parts.append(self._graph.reshaped(f"/{word}_rows", rows, (1, -1, 1, HEAD)))
        return parts[0], parts[1]

    def _block(self, name: str, value: str, bias: str, frames: str, rotation: tuple[str, str] | None) -> str:
        graph, width = self._graph, self._width
        attended = self._attention(f"{name}/attn", self._norm(f"{name}/attn_ln", value), bias, frames, rotation)
        value = graph.node("Add", f"{name}/Add", value, attended)
        inner = graph.linear(f"{name}/mlp/mlp.0", self._norm(f"{name}/mlp_ln", value), width, 4 * width)
        inner = graph.gelu(f"{name}/mlp/mlp.1", inner)
        return graph.node("Add", f"{name}/Add_1", value, graph.linear(f"{name}/mlp/mlp.2", inner, 4 * width, width))

    def _norm(self, name: str, value: str) -> str:
        """v1 was exported before ONNX had LayerNormalization."""
        graph, stem = self._graph, name.strip("/").replace("/", ".")
        weight = graph.weight(f"{stem}.weight", (self._width,), scale=0.1, mean=1.0)
        bias = graph.weight(f"{stem}.bias", (self._width,), scale=0.1)
        if self._version == "v2":
            return graph.node("LayerNormalization", f"{name}/LayerNormalization", value, weight, bias, axis=-1, epsilon=1e-5)
        centred = graph.node("Sub", f"{name}/Sub", value, graph.node("ReduceMean", f"{name}/ReduceMean", value, axes=[-1]))
        squares = graph.scaled(f"{name}/Pow", centred, "Pow", 2.0)
        variance = graph.node("ReduceMean", f"{name}/ReduceMean_1", squares, axes=[-1])
        deviation = graph.node("Sqrt", f"{name}/Sqrt", graph.scaled(f"{name}/Add", variance, "Add", 1e-5))
        normal = graph.node("Div", f"{name}/Div", centred, deviation)
        return graph.node("Add", f"{name}/Add_1", graph.node("Mul", f"{name}/Mul", normal, weight), bias)

    def _attention(self, name: str, value: str, bias: str, frames: str, rotation: tuple[str, str] | None) -> str:
        graph, width = self._graph, self._width
        query = self._heads(f"{name}/query", graph.linear(f"{name}/query", value, width, width, gain=ATTENTION_GAIN))
        key = self._heads(f"{name}/key", graph.linear(f"{name}/key", value, width, width, bias=False, gain=ATTENTION_GAIN))
        values = graph.linear(f"{name}/value", value, width, width)
        if rotation:
            query, key = (self._rotated(f"{name}/rotary{i}", part, *rotation) for i, part in enumerate((query, key)))
        query = graph.node("Transpose", f"{name}/Transpose", query, perm=[0, 2, 1, 3])
        key = graph.node("Transpose", f"{name}/Transpose_1", key, perm=[0, 2, 3, 1])
        heads = graph.node("Transpose", f"{name}/Transpose_2", self._heads(f"{name}/value", values), perm=[0, 2, 1, 3])
        query = graph.scaled(f"{name}/query_scale", query, "Mul", HEAD**-0.25)
        key = graph.scaled(f"{name}/key_scale", key, "Mul", HEAD**-0.25)
        scores = graph.node("Add", f"{name}/scores", graph.node("MatMul", f"{name}/qk", query, key), bias)
        weights = graph.node("Softmax", f"{name}/Softmax", scores, axis=-1)
        mixed = graph.node(
            "Transpose", f"{name}/Transpose_3", graph.node("MatMul", f"{name}/wv", weights, heads), perm=[0, 2, 1, 3]
        )
        mixed = graph.linear(
            f"{name}/out", graph.reshaped(f"{name}/Reshape", mixed, (1, -1, width)), width, width, gain=ATTENTION_GAIN
        )
        return graph.node("Add", f"{name}/memory_sum", mixed, self._memory(name, values, frames)) if rotation else mixed

    def _heads(self, name: str, value: str) -> str:
        return self._graph.reshaped(f"{name}_heads", value, (1, -1, self._width // HEAD, HEAD))

    def _rotated(self, name: str, value: str, cosine: str, sine: str) -> str:
        graph = self._graph
        halves = [f"{name}/Split_output_{index}" for index in range(2)]
        graph.nodes.append(helper.make_node("Split", [value], halves, name=f"{name}/Split", axis=-1))
        turned = graph.node("Concat", f"{name}/Concat", graph.node("Neg", f"{name}/Neg", halves[1]), halves[0], axis=-1)
        straight = graph.node("Mul", f"{name}/cos", value, cosine)
        return graph.node("Add", f"{name}/sum", straight, graph.node("Mul", f"{name}/sin", turned, sine))

    def _memory(self, name: str, values: str, frames: str) -> str:
        """v2's FSMN: a depthwise convolution over the values."""
        graph, width = self._graph, self._width
        masked = graph.node("Mul", f"{name}/fsmn_in", values, frames)
        turned = graph.node("Transpose", f"{name}/fsmn_turn", masked, perm=[0, 2, 1])
        weight = graph.weight(f"{name.strip('/')}.fsmn_block.weight", (width, 1, FSMN_KERNEL), scale=FSMN_KERNEL**-0.5)
        side = FSMN_KERNEL // 2
        attributes = {"dilations": [1], "group": width, "kernel_shape": [FSMN_KERNEL], "pads": [side, side], "strides": [1]}
        memory = graph.node("Conv", f"{name}/fsmn_block/Conv", turned, weight, **attributes)
        back = graph.node("Transpose", f"{name}/fsmn_back", memory, perm=[0, 2, 1])
        return graph.node("Mul", f"{name}/fsmn_out", graph.node("Add", f"{name}/fsmn_add", back, masked), frames)


def _codebook(graph: _Graph, hidden: str, width: int) -> str:
    """v1: the nearest of 4096 rows, to the normalised hidden state."""
    name = "/quantizer/rq/model/layers.0/_codebook"
    norm = graph.node("ReduceL2", f"{name}/ReduceL2", hidden, axes=[-1])
    norm = graph.node("Max", f"{name}/Clip", norm, graph.constant(f"{name}/Constant", 1e-12))
    unit = graph.reshaped(f"{name}/Reshape", graph.node("Div", f"{name}/Div", hidden, norm), (-1, width))
    # The transposed codebook, as a folded constant: what onnx2torch takes from the node Pow_1.
    embed = graph.weight("onnx::Pow_embed", (width, 4096), scale=width**-0.5, balanced=0)
    squares = graph.scaled(f"{name}/Pow", unit, "Pow", 2.0)
    power = graph.node("Pow", f"{name}/Pow_1", embed, graph.constant(f"{name}/two", 2.0))
    axes = {word: graph.constant(f"{name}/{word}", [axis], np.int64) for word, axis in (("rows", 0), ("columns", 1))}
    left = graph.node("ReduceSum", f"{name}/ReduceSum", squares, axes["columns"], keepdims=1)
    right = graph.node("ReduceSum", f"{name}/ReduceSum_1", power, axes["rows"], keepdims=1)
    product = graph.node("MatMul", f"{name}/MatMul", graph.scaled(f"{name}/Mul", unit, "Mul", 2.0), embed)
    distance = graph.node("Add", f"{name}/Add", graph.node("Sub", f"{name}/Sub", left, product), right)
    nearest = graph.node("ArgMax", f"{name}/ArgMax", graph.node("Neg", f"{name}/Neg", distance), axis=-1, keepdims=0)
    return graph.node("Cast", "/Cast_indices", graph.reshaped("/indices", nearest, (1, -1)), to=TensorProto.INT32)


def _finite_scalars(graph: _Graph, hidden: str, width: int) -> str:
    """v2: 8 numbers of 3 levels each."""
    name = "/quantizer/project_in"
    weight = graph.weight("onnx::MatMul_2536", (width, 8), scale=width**-0.5)
    bias = graph.weight("quantizer.project_in.bias", (8,), scale=0.1)
    level = graph.node("Add", f"{name}/Add", bias, graph.node("MatMul", f"{name}/MatMul", hidden, weight))
    level = graph.scaled("/quantizer/Mul", graph.node("Tanh", "/quantizer/Tanh", level), "Mul", 0.9990000128746033)
    level = graph.scaled("/quantizer/Add", graph.node("Round", "/quantizer/Round", level), "Add", 1.0)
    digits = graph.scaled("/quantizer/Mul_1", level, "Mul", 3.0 ** np.arange(8))
    axis = graph.constant("/quantizer/axis", [-1], np.int64)
    total = graph.node("ReduceSum", "/quantizer/ReduceSum", digits, axis, keepdims=0)
    return graph.node("Cast", "/Cast_indices", total, to=TensorProto.INT32)
