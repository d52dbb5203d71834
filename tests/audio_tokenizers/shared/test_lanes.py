"""shared/lanes.py: what lies behind a lane's end reaches none of its frames, layer by layer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.lanes import NoWaiting
from torch import Tensor, nn

from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.shared.lanes import Branch, LaneTable

WIDTH, CHANNELS = 37, 6
LENGTHS = (1, 2, 3, 5, 8, 20, 36, 37)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def filled(channels: int = CHANNELS) -> Tensor:
    """[lanes, channels, WIDTH], with what no layer may see behind the lanes' ends."""
    batch = noise(len(LENGTHS), channels, WIDTH)
    for lane, length in enumerate(LENGTHS):
        batch[lane, :, length:] = 1e3
    return batch


def check(module: nn.Module, batch: Tensor, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Each lane of `module` is what it makes of the lane alone, and each length what the table says."""
    module = module.double().eval()
    with torch.inference_mode():
        alone = [module(batch[lane : lane + 1, :, :length].clone())[0] for lane, length in enumerate(lengths)]
        with Branch(module).scope({batch.shape[2]: lengths}) as table:
            together = module(batch.clone())
    assert [found.shape[1] for found in alone] == list(table.at(together.shape[2]))
    for lane, found in enumerate(alone):
        assert float((together[lane, :, : found.shape[1]] - found).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"), [(7, 1, 1, 3), (7, 1, 3, 9), (4, 2, 1, 1), (6, 3, 1, 2)]
)
def test_convolutions(kernel: int, stride: int, dilation: int, padding: int) -> None:
    """Two in a row, each with zeros behind every lane's own end, as many as it pads with."""
    layers = [nn.Conv1d(CHANNELS, CHANNELS, kernel, stride, padding, dilation) for _ in range(2)]
    lengths = tuple(max(length, 8) for length in LENGTHS)
    check(nn.Sequential(*layers), filled(), lengths)


def test_an_even_kernel_makes_one_frame_more() -> None:
    """As in HuBERT's convolution over positions, whose surplus frame is cut off afterwards."""
    check(nn.Conv1d(CHANNELS, CHANNELS, 16, padding=8), filled())


@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
def test_group_norms_count_a_lanes_own_frames(groups: int) -> None:
    """Mean and variance run over time, and over the channels of a group."""
    lengths = tuple(max(length, 2) for length in LENGTHS)
    check(nn.Sequential(nn.Conv1d(CHANNELS, CHANNELS, 1), nn.GroupNorm(groups, CHANNELS)), filled(), lengths)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_convolutions_that_pad_by_themselves(mode: str, causal: bool) -> None:
    """Those of EnCodec and Mimi fill up the last step of a stride, with zeros, reflected or repeated values."""
    from transformers.models.encodec.modeling_encodec import EncodecConv1d

    config = SimpleNamespace(use_causal_conv=causal, pad_mode=mode, norm_type="weight_norm")
    for kernel, stride, dilation in [(1, 1, 1), (7, 1, 1), (3, 1, 2), (4, 2, 1), (10, 5, 1), (16, 8, 1), (3, 3, 1)]:
        check(EncodecConv1d(config, CHANNELS, CHANNELS, kernel, stride, dilation), filled())


def test_a_call_narrower_than_its_padding() -> None:
    """A reflection reads zeros behind a clip that is shorter than what is reflected, in the widest lane too."""
    from transformers.models.encodec.modeling_encodec import EncodecConv1d

    config = SimpleNamespace(use_causal_conv=True, pad_mode="reflect", norm_type="weight_norm")
    for kernel, width in itertools.product((7, 11), (1, 2, 5)):
        check(EncodecConv1d(config, CHANNELS, CHANNELS, kernel), noise(2, CHANNELS, width), (1, width))


@pytest.mark.parametrize("model", ["hubert", "wav2vec2", "wavlm"])
def test_attention_sees_a_lanes_own_keys(model: str) -> None:
    """Of all layers with attention over the whole clip that a codec here has."""
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": CHANNELS,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
    }
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = {"hubert": "HubertConfig", "wav2vec2": "Wav2Vec2Config", "wavlm": "WavLMConfig"}[model]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = transformers.AutoModel.from_config(getattr(transformers, config)(**sizes, **positions))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = whole.encoder

        def forward(self, hidden: Tensor) -> Tensor:
            states: Tensor = self.encoder(hidden.transpose(1, 2)).last_hidden_state
            return states.transpose(1, 2)

    check(Encoder(), filled())


def test_the_mask_is_there_also_where_no_lane_is_short() -> None:
    """Else the company would decide which kernel is taken."""
    seen: list[Tensor | None] = []

    class HubertAttention(nn.Module):
        def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            seen.append(attention_mask)
            return hidden

    layer = HubertAttention()
    with Branch(layer).scope({WIDTH: [WIDTH] * 2}):
        layer(noise(2, WIDTH, CHANNELS), attention_mask=None)
    assert seen[0] is not None
    assert seen[0].shape == (2, 1, 1, WIDTH)
    assert bool(seen[0].all())


def test_an_attention_under_another_name_is_refused() -> None:
    """Without a mask it would hear the padding, and nobody would be told."""

    class HubertFastAttention(nn.Module):
        pass

    with pytest.raises(UsageError, match="HubertFastAttention is not known here: take --set lanes=0"):
        Branch(nn.Sequential(HubertFastAttention()))


def test_nothing_happens_outside_a_scope() -> None:
    """Neither before nor after one, an error within it included, nor in another thread meanwhile."""
    module = nn.Sequential(nn.Conv1d(CHANNELS, CHANNELS, 7, padding=3), nn.GroupNorm(2, CHANNELS))
    batch = filled().float()
    with torch.inference_mode():
        expected = module(batch)
        branch = Branch(module)
        assert torch.equal(module(batch), expected)
        elsewhere: list[Tensor] = []

        def compute() -> None:
            with torch.inference_mode():
                elsewhere.append(module(batch))

        with branch.scope({WIDTH: LENGTHS}):
            thread = threading.Thread(target=compute)
            thread.start()
            thread.join()
            assert not torch.equal(module(batch.clone()), expected)
        assert torch.equal(elsewhere[0], expected)
        with pytest.raises(ZeroDivisionError), branch.scope({WIDTH: LENGTHS}):
            raise ZeroDivisionError
        assert torch.equal(module(batch), expected)


def test_two_branches_are_two_tables() -> None:
    """Equal widths may have other lengths in another branch, but not in one."""
    one, other = nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1)
    with Branch(one).scope({4: [4]}) as first, Branch(other).scope({4: [2]}) as second, torch.inference_mode():
        one(torch.zeros(1, 1, 4))
        other(torch.zeros(1, 1, 4))
        assert (first.at(4), second.at(4)) == ((4,), (2,))
    with pytest.raises(InfrastructureError, match="two lengths of one lane at width 4"):
        first.enter(4, [3])


def test_a_lane_longer_than_its_width() -> None:
    """A shape of no whole hops, whose clips would lose their last frames."""
    with pytest.raises(InfrastructureError, match="a clip of 640 in a width of 600"):
        LaneTable({600: [320, 640]})


def test_a_width_that_nobody_entered() -> None:
    """A layer that changes the width unseen, by a pooling say, is an error and never a guess."""
    module = nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(1, 1, 3, padding=1))
    with (
        Branch(module).scope({8: [5]}),
        pytest.raises(InfrastructureError, match=r"4 is none of the widths \[8\]"),
        torch.inference_mode(),
    ):
        module(torch.zeros(1, 1, 8))


WAITS: dict[str, Callable[[Tensor], object]] = {
    "a value": lambda here: here[0].item(),
    "a decision": lambda here: bool((here > 0).all()),
    "a choice by values": lambda here: here[here > 0],
    "a tensor made on the host": lambda _: torch.tensor([1.0], device="meta"),
    "a tensor moved": lambda here: torch.tensor(1.0).to(here),
    "a tensor copied": lambda here: here.copy_(torch.ones(3)),
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_watch_of_the_other_tests_sees(wait: str) -> None:
    """What a GPU would be waited for, and not what is a scalar of Python."""
    here = torch.zeros(3, device="meta")
    with torch.inference_mode(), NoWaiting():
        here[1:].fill_(2.0)
        torch.where(here * 2.0 == 0, 0.5, 0.0)
        with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
            WAITS[wait](here)


def test_a_lane_without_a_frame() -> None:
    """An empty row of a mask would be NaN; the clip is too short, whatever its backend promised."""
    table = LaneTable({16: [16, 3]})
    with pytest.raises(ClipError, match="no frame") as caught:
        table.step(16, lambda length: length // 4)
    assert caught.value.kind == "too_short"
