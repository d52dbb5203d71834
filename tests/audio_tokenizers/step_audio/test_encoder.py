from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio_tokenizers.step_audio.encoder import CHUNK, ROWS, ChunkEncoder, Network
from audio_tokenizers.step_audio.files import FEATURES, Checkpoint

PUBLISHED = Checkpoint(directory=Path(), config={}, width=512, heads=4, feed_forward=2048, layers=2, kernel=11)
LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 15, 16, 17, 20, 23, 25, 30, 33]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Network(PUBLISHED)
    return made.eval()


@pytest.fixture(scope="module")
def clips() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(frames, FEATURES, generator=generator) for frames in LENGTHS]


@pytest.fixture(scope="module")
def alone(network: Network, clips: list[torch.Tensor]) -> list[torch.Tensor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        encoder = ChunkEncoder(network, "cpu", 1)
        made = [encoder.encode([clip])[0] for clip in clips]
    torch.set_num_threads(threads)
    return made


def reference(network: Network, clip: torch.Tensor) -> torch.Tensor:
    """float64 [frames, 512], from the definition: each window of 9 against all that it may look back to."""
    encoder = network.encoder
    scale, half = 512**0.5, FEATURES // 2
    rates = torch.exp(-torch.arange(half, dtype=torch.float64) * np.log(10000) / (half - 1))
    angles = torch.arange(1, len(clip) + 1, dtype=torch.float64)[:, None] * rates
    padded = torch.cat((torch.zeros(5, FEATURES), clip * scale + torch.cat((angles.sin(), angles.cos()), 1))).double()
    layers = [*encoder.encoders0, *encoder.encoders]
    before: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in layers]
    outputs = []
    for start in range(0, len(clip), CHUNK):
        x = padded[start : start + 9]
        for layer, past in zip(layers, before, strict=True):
            attention = layer.self_attn
            inner = torch.nn.functional.layer_norm(x, x.shape[1:], layer.norm1.weight, layer.norm1.bias, 1e-12)
            query, key, value = (inner @ attention.linear_q_k_v.weight.T + attention.linear_q_k_v.bias).split(512, dim=1)
            keys = torch.cat([*[k for k, _ in past][-16:], key]) if past else key
            values = torch.cat([*[v for _, v in past][-16:], value]) if past else value
            heads = []
            for head in range(4):
                part = slice(128 * head, 128 * head + 128)
                heads.append(torch.softmax(query[:, part] @ keys[:, part].T / 128**0.5, dim=1) @ values[:, part])
            memory = value.clone()
            around = torch.cat((torch.zeros(5, 512).double(), value, torch.zeros(5, 512).double()))
            for tap in range(11):
                memory += around[tap : tap + len(x)] * attention.fsmn_block.weight[:, 0, tap]
            attended = torch.cat(heads, 1) @ attention.linear_out.weight.T + attention.linear_out.bias + memory
            past.extend((key[i : i + 1], value[i : i + 1]) for i in range(len(x) - 5))
            x = x + attended if x.shape == attended.shape else attended
            inner = torch.nn.functional.layer_norm(x, x.shape[1:], layer.norm2.weight, layer.norm2.bias, 1e-12)
            hidden = torch.relu(inner @ layer.feed_forward.w_1.weight.T + layer.feed_forward.w_1.bias)
            x = x + hidden @ layer.feed_forward.w_2.weight.T + layer.feed_forward.w_2.bias
        after = encoder.after_norm
        outputs.append(torch.nn.functional.layer_norm(x, x.shape[1:], after.weight, after.bias, 1e-12)[5:])
    return torch.cat(outputs)


def test_the_network_computes_its_definition(network: Network, clips: list[torch.Tensor], alone: list[torch.Tensor]) -> None:
    """Window, look-back, memory, positions and residuals, written out a second time, plainly and in float64."""
    for number in (1, 6, 13, 17):
        exact = reference(network.double(), clips[number])
        network.float()
        assert torch.allclose(alone[number].double(), exact, atol=2e-4)


def test_what_comes_later_changes_nothing_before(
    network: Network, clips: list[torch.Tensor], alone: list[torch.Tensor]
) -> None:
    """No look-ahead: a clip cut behind a step has the same frames up to there, bit for bit."""
    encoder = ChunkEncoder(network, "cpu", 1)
    for frames in (4, 8, 20, 32):
        assert torch.equal(encoder.encode([clips[-1][:frames]])[0], alone[-1][:frames])


@pytest.mark.parametrize(("lanes", "threads"), [(1, 1), (3, 1), (32, 1), (32, 2), (7, 3)])
def test_a_clip_has_the_same_bits_in_any_company(
    network: Network, clips: list[torch.Tensor], alone: list[torch.Tensor], lanes: int, threads: int
) -> None:
    """Features, not only tokens: whatever the lengths beside it, their order, the lanes, and the number of threads."""
    torch.set_num_threads(threads)
    encoder = ChunkEncoder(network, "cpu", lanes)
    numbers = np.random.default_rng(lanes).permutation(len(clips))
    for found, number in zip(encoder.encode([clips[n] for n in numbers]), numbers, strict=True):
        assert torch.equal(found, alone[number])
    for pair in ((3, 9), (17, 17), (0, 5), (12, 1)):
        both = encoder.encode([clips[n] for n in pair])
        assert all(torch.equal(frames, alone[n]) for frames, n in zip(both, pair, strict=True))


@pytest.mark.parametrize("cuts", [[4], [8, 12], [0, 4, 4, 8], [16, 32]])
def test_a_stream_has_the_bits_of_the_whole_clip(
    network: Network, clips: list[torch.Tensor], alone: list[torch.Tensor], cuts: list[int]
) -> None:
    """The state carries all that a cut would lose."""
    encoder = ChunkEncoder(network, "cpu", 32)
    state = encoder.start()
    ends = [*cuts, len(clips[-1])]
    pieces = [encoder.advance(state, clips[-1][start:end]) for start, end in zip([0, *cuts], ends, strict=True)]
    assert torch.equal(torch.cat(pieces), alone[-1])
    assert state.position == len(clips[-1])


def test_clips_that_have_ended_cost_nothing_more(
    network: Network, clips: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has the clips that still go; the rests of all clips wait for one another."""
    sizes = []
    encoder = ChunkEncoder(network, "cpu", 32)
    real = encoder._step

    def watch(window: torch.Tensor, caches: Any) -> Any:
        sizes.append(tuple(window.shape[:2]))
        return real(window, caches)

    monkeypatch.setattr(encoder, "_step", watch)
    encoder.encode([clips[LENGTHS.index(frames)] for frames in (7, 33, 4, 12, 7)])
    assert sizes == [(5, 9), (2, 9), (2, 9), *[(1, 9)] * 5, (2, 8), (1, 6)]


def test_clips_longer_than_any_before_get_their_positions(network: Network) -> None:
    """The table of sinusoids grows; long and short clips see the same ones."""
    torch.set_num_threads(1)
    clip = torch.randn(1100, FEATURES, generator=torch.Generator().manual_seed(1))
    encoder, fresh = ChunkEncoder(network, "cpu", 1), ChunkEncoder(network, "cpu", 1)
    embedded = fresh.embed(clip, 0)
    assert torch.equal(encoder.embed(clip[1060:], 1060), embedded[1060:])
    assert torch.equal(encoder.embed(clip[:30], 0), embedded[:30])


def test_the_table_of_positions_may_shrink_meanwhile(network: Network) -> None:
    """Another thread that grew it for a shorter clip may be the last to set it: no clip fails for that."""

    class Shared(ChunkEncoder):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value[:1024] if name == "_positions" else value)

    clip = torch.randn(1100, FEATURES, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Shared(network, "cpu", 1).embed(clip), ChunkEncoder(network, "cpu", 1).embed(clip))


def test_products_get_rows_in_sixteens(network: Network) -> None:
    """MKL sends a rest of one to three rows through another kernel; here are never such rests."""
    rows = []
    layer: Any = network.encoder.encoders[0]
    hook = layer.feed_forward.register_forward_pre_hook(lambda _, x: rows.append(len(x[0])))
    try:
        ChunkEncoder(network, "cpu", 4).encode([torch.zeros(frames, FEATURES) for frames in (4, 9, 3)])
    finally:
        hook.remove()
    assert rows
    assert {count % ROWS for count in rows} == {0}


def test_other_widths_are_possible() -> None:
    """Sizes come from config.yaml."""
    small = dataclasses.replace(PUBLISHED, width=64, heads=2, feed_forward=32, layers=1, kernel=3)
    found = ChunkEncoder(Network(small).eval(), "cpu", 2).encode([torch.zeros(5, FEATURES)])[0]
    assert found.shape == (5, 64)
