"""shared/lane_quantizers.py: the codes of the networks' own quantizers, at less expense."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audio_tokenizers.shared.lane_quantizers import LaneQuantizer

LANES, FRAMES = 4, 300
KINDS = ("mimi", "dac", "encodec", "xcodec", "higgs_audio_v2_tokenizer", "bicodec")
METHODS = {"dac": "forward", "bicodec": "forward"}


def own_quantizer(kind: str) -> tuple[Any, int, int]:
    """The network's own module of the published size, without weights; its width, and its codebooks."""
    import transformers
    from transformers.models.dac.modeling_dac import DacResidualVectorQuantizer
    from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer
    from transformers.models.higgs_audio_v2_tokenizer.modeling_higgs_audio_v2_tokenizer import (
        HiggsAudioV2TokenizerResidualVectorQuantization,
    )
    from transformers.models.mimi.modeling_mimi import MimiSplitResidualVectorQuantizer
    from transformers.models.xcodec.modeling_xcodec import XcodecResidualVectorQuantization

    from audio_tokenizers.bicodec.model import _FactorizedQuantizer

    if kind == "mimi":
        return MimiSplitResidualVectorQuantizer(transformers.MimiConfig(num_quantizers=8)), 512, 8
    if kind == "dac":
        return DacResidualVectorQuantizer(transformers.DacConfig()), 1024, 9
    if kind == "encodec":
        return EncodecResidualVectorQuantizer(transformers.EncodecConfig()), 128, 32
    if kind == "xcodec":
        xcodec: Any = transformers.XcodecConfig()
        return XcodecResidualVectorQuantization(xcodec), xcodec.codebook_dim, xcodec.num_quantizers
    if kind == "bicodec":
        return _FactorizedQuantizer(1024, 8192, 8), 1024, 1
    config = transformers.HiggsAudioV2TokenizerConfig()
    return HiggsAudioV2TokenizerResidualVectorQuantization(config), config.hidden_size, config.num_quantizers


def made(kind: str, dtype: torch.dtype) -> tuple[SimpleNamespace, int, Tensor]:
    """A model that is only a quantizer of random weights, its codebooks, and embeddings [lanes, width, frames] for it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        quantizer, width, codebooks = own_quantizer(kind)
        for number, (name, tensor) in enumerate([*quantizer.named_parameters(), *quantizer.named_buffers()]):
            if name.endswith(("embed", "embed_sum", "codebook.weight")):
                tensor.data.copy_(0.8 ** (number % 8) * torch.randn(tensor.shape))
            elif name.endswith("cluster_usage"):
                tensor.data.copy_(torch.rand(tensor.shape) + 0.5)
            elif name.endswith("weight"):
                tensor.data.copy_(torch.randn(tensor.shape) * tensor[0].numel() ** -0.5)
        embedding = torch.randn(LANES, width, FRAMES, dtype=torch.float64).to(dtype)
    config = {} if kind == "bicodec" else {"config": SimpleNamespace(model_type=kind)}
    quantizer = quantizer.to(dtype).eval().requires_grad_(requires_grad=False)
    return SimpleNamespace(quantizer=quantizer, **config), codebooks, embedding


def codes_of(kind: str, model: SimpleNamespace, embedding: Tensor, count: int | None = None) -> Tensor:
    """int64 [codebooks, lanes, frames], by what the model calls; `count` as it says it."""
    with torch.inference_mode():
        if kind == "dac":
            found: Tensor = model.quantizer(embedding, count)[1].transpose(0, 1)
            return found
        if kind == "bicodec":
            return model.quantizer(embedding)[None]  # type: ignore[no-any-return]
        return model.quantizer.encode(embedding, *([count] if kind == "mimi" and count else []))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_in_float64_the_codes_are_the_networks_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever rounding decides is out of sight there: the formula is the same, for each codebook and each frame."""
    model, codebooks, embedding = made(kind, torch.float64)
    # Mimi's own distances are float32 always: here the cast does nothing.
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)
    expected = codes_of(kind, model, embedding)
    monkeypatch.undo()
    with LaneQuantizer(model, codebooks).in_place():
        found = codes_of(kind, model, embedding)
    assert (found.shape, found.dtype) == ((codebooks, LANES, FRAMES), torch.int64)
    assert torch.equal(found, expected)
    # Codes that hardly vary would agree by chance.
    assert all(len(book.unique()) > 200 for book in found)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_nearly_all_are(kind: str) -> None:
    """Another order of summation moves a near tie, and all of the frame's codes behind it."""
    model, codebooks, embedding = made(kind, torch.float32)
    expected = codes_of(kind, model, embedding)
    with LaneQuantizer(model, codebooks).in_place():
        found = codes_of(kind, model, embedding)
    print(f"{kind}: {(found != expected).sum()} of {found.numel()} codes differ")
    assert float((found == expected).double().mean()) > 0.9995


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_happens_outside_the_block(kind: str) -> None:
    """Neither before nor after it, nor in another thread meanwhile: single clips are quantized as ever."""
    model, codebooks, embedding = made(kind, torch.float32)
    expected, calls = codes_of(kind, model, embedding), []
    quantizer = LaneQuantizer(model, codebooks)
    quantizer.register_forward_hook(lambda *_: calls.append(threading.current_thread()))
    elsewhere: list[Tensor] = []
    assert torch.equal(codes_of(kind, model, embedding), expected)
    with quantizer.in_place():
        thread = threading.Thread(target=lambda: elsewhere.append(codes_of(kind, model, embedding)))
        thread.start()
        thread.join()
        codes_of(kind, model, embedding)
    with pytest.raises(ZeroDivisionError), quantizer.in_place():
        raise ZeroDivisionError
    assert torch.equal(codes_of(kind, model, embedding), expected)
    assert torch.equal(elsewhere[0], expected)
    assert calls == [threading.current_thread()]


class Count(TorchDispatchMode):
    """Kernels, and products of matrices among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["mimi", "dac"])
@pytest.mark.parametrize("count", [1, 3])
def test_no_more_is_computed_than_is_asked_for(kind: str, count: int) -> None:
    """The first codebooks of a model are an exact prefix, and the others are neither searched nor kept in memory."""
    model, codebooks, embedding = made(kind, torch.float32)
    expected = codes_of(kind, model, embedding, count)
    quantizer = LaneQuantizer(model, count)
    with quantizer.in_place(), Count() as kernels:
        found = codes_of(kind, model, embedding, count)
    assert found.shape == expected.shape == (count, LANES, FRAMES)
    assert float((found == expected).double().mean()) > 0.999
    assert kernels.names.count("argmax") == count < codebooks
    chains: Any = quantizer.chains
    assert sum(len(chain.codebooks) for chain in chains) == count


@pytest.mark.parametrize("kind", KINDS)
def test_a_codebook_takes_one_product_and_few_kernels(kind: str) -> None:
    """Beside its projection: on a GPU each kernel is a pass over [frames, codes], or the launch of one."""
    model, codebooks, embedding = made(kind, torch.float32)
    with Count() as own:
        codes_of(kind, model, embedding)
    with LaneQuantizer(model, codebooks).in_place(), Count() as ours:
        codes_of(kind, model, embedding)
    products = sum(name in ("mm", "addmm", "bmm", "linear") for name in ours.names)
    projections = {"dac": codebooks, "higgs_audio_v2_tokenizer": codebooks, "bicodec": 1, "mimi": 2}
    assert products == codebooks + projections.get(kind, 0)
    print(f"{kind}: {len(ours.names)} kernels instead of {len(own.names)}")
    assert len(ours.names) < 0.75 * len(own.names)


def test_its_tensors_move_with_the_model() -> None:
    """To a device, or to another type."""
    model, codebooks, embedding = made("encodec", torch.float32)
    quantizer = LaneQuantizer(model, codebooks)
    model.quantizer.double()
    assert {tensor.dtype for tensor in quantizer.buffers()} == {torch.float64}
    with quantizer.in_place():
        assert codes_of("encodec", model, embedding.double()).shape == (codebooks, LANES, FRAMES)
    assert not any(name.startswith("for_lanes") for name in model.quantizer.state_dict())
