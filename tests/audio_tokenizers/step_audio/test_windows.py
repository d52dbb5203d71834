"""audio_tokenizers/step_audio/windows.py: all steps at once are what they are one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.lanes import NoWaiting

from audio_tokenizers.step_audio.encoder import CHUNK, ChunkEncoder, Network
from audio_tokenizers.step_audio.files import FEATURES, Checkpoint
from audio_tokenizers.step_audio.windows import WindowEncoder

SHAPE = Checkpoint(directory=Path(), config={}, width=512, heads=4, feed_forward=512, layers=3, kernel=11)
LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 15, 16, 17, 20, 23, 25, 33, 100]


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(SHAPE).eval()


@pytest.fixture(scope="module")
def clips() -> list[torch.Tensor]:
    """Embedded features, as ChunkEncoder.embed gives them."""
    generator = torch.Generator().manual_seed(0)
    return [20 * torch.randn(frames, FEATURES, generator=generator) for frames in LENGTHS]


@pytest.fixture(scope="module")
def centres() -> torch.Tensor:
    return torch.randn(1024, SHAPE.width, generator=torch.Generator().manual_seed(1))


def hidden(encoder: WindowEncoder, clips: list[torch.Tensor]) -> list[torch.Tensor]:
    """[frames, width] of each clip."""
    tiles = list(encoder.hidden_states(clips))
    steps = [-(-len(clip) // CHUNK) * CHUNK for clip in clips]
    flat = torch.cat(tiles).flatten(0, 1)[: sum(steps)]
    return [part[: len(clip)] for part, clip in zip(flat.split_with_sizes(steps), clips, strict=True)]


def step_by_step(of: Network, clip: torch.Tensor) -> torch.Tensor:
    """What the network itself makes of one window after the other."""
    caches, outputs = [None] * SHAPE.layers, [clip.new_zeros(0, SHAPE.width)]
    padded = torch.nn.functional.pad(clip, (0, 0, 5, 0))
    for start in range(0, len(clip), CHUNK):
        output, caches = of.encoder(padded[None, start : start + 9], caches)
        outputs.append(output[0])
    return torch.cat(outputs)


@pytest.mark.parametrize("windows", [4, 5, 16, 256])
def test_windows_are_the_steps(clips: list[torch.Tensor], centres: torch.Tensor, windows: int) -> None:
    """In float64, at every length of a rest and of a look-back, wherever tiles end: nothing else is heard or missed."""
    of = network().double()
    wide = [clip.double() for clip in clips]
    found = hidden(WindowEncoder(of, centres, "cpu", windows), wide)
    for ours, clip in zip(found, wide, strict=True):
        alone = step_by_step(of, clip)
        assert ours.shape == alone.shape
        assert len(clip) == 0 or float((ours - alone).abs().max()) < 1e-11


def test_a_clip_has_the_same_bits_in_any_company(clips: list[torch.Tensor], centres: torch.Tensor) -> None:
    """Whatever stands before and behind it, in whichever place of whichever tile, and also alone."""
    encoder = WindowEncoder(network(), centres, "cpu", 8)
    together = hidden(encoder, clips)
    for order in (list(reversed(range(len(clips)))), list(np.random.default_rng(0).permutation(len(clips)))):
        for number, found in zip(order, hidden(encoder, [clips[n] for n in order]), strict=True):
            assert torch.equal(found, together[number])
    for clip, expected in zip(clips[1:], together[1:], strict=True):
        assert torch.equal(hidden(encoder, [clip])[0], expected)


def test_codes_are_the_nearest_centres(clips: list[torch.Tensor], centres: torch.Tensor) -> None:
    """As many as frames, and of nothing none; the same as step by step on a CPU but where rounding decides."""
    of = network()
    found = WindowEncoder(of, centres, "cpu").begin(clips)()
    assert [(codes.dtype, len(codes)) for codes in found] == [(np.dtype(np.int16), frames) for frames in LENGTHS]
    expected = [torch.cdist(step_by_step(of, clip), centres).argmin(1).numpy() for clip in clips]
    assert np.mean(np.concatenate(found) == np.concatenate(expected)) > 0.99
    assert len(np.unique(np.concatenate(found))) > 50
    assert WindowEncoder(of, centres, "cpu").begin([])() == []
    assert [len(codes) for codes in WindowEncoder(of, centres, "cpu").begin([clips[0]])()] == [0]


def test_the_codes_are_those_of_the_streams_encoder(clips: list[torch.Tensor], centres: torch.Tensor) -> None:
    """The steps above are those that ChunkEncoder takes, which the rest of the suite compares with FunASR's."""
    of = network()
    plain = [clip / 20 for clip in clips]
    stream = ChunkEncoder(of, "cpu", 4)
    found = hidden(WindowEncoder(of, centres, "cpu"), [stream.embed(clip) for clip in plain])
    for ours, theirs in zip(found, stream.encode(plain), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)


def test_nobody_waits_for_the_device(
    clips: list[torch.Tensor], centres: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From tiles on the device to codes there no value is asked for, and none is copied over."""
    encoder = WindowEncoder(network().to("meta"), centres, "meta", 16)
    tiles = [(tile.to("meta"), seen.to("meta")) for tile, seen in encoder._tiles(clips)]
    monkeypatch.setattr(encoder, "_tiles", lambda _: iter(tiles))
    with NoWaiting():
        found = [encoder.nearest(part) for part in encoder.hidden_states(clips)]
    assert len(tiles) > 4
    assert {codes.shape for codes in found} == {(16 * CHUNK,)}
