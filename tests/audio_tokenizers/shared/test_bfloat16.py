"""shared/bfloat16.py: which layers compute in bfloat16, and which do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audio_tokenizers.shared.bfloat16 import use_bfloat16


class Encoder(nn.Module):
    """One layer of each kind, and a buffer that must keep its value."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = nn.Conv1d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.middle = nn.Conv1d(8, 8, 3, padding=1)
        self.remembers = nn.LSTM(8, 8, batch_first=True)
        self.frequency = nn.Buffer(torch.tensor(1 / 3))
        self.last = nn.Sequential(nn.ELU(), nn.Linear(8, 8))

    def forward(self, wave: Tensor, *, scale: Tensor) -> Tensor:
        hidden = self.middle(self.norm(self.hears(wave)))
        remembered: Tensor = self.remembers(hidden.transpose(1, 2) * scale)[0]
        embedding: Tensor = self.last(remembered * self.frequency)
        return embedding


def made() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder().eval()


def test_what_stays_in_float32() -> None:
    """What hears samples, normalises over time or adds up over it, what comes last, and buffers: all else is narrow."""
    encoder = made()
    use_bfloat16([encoder], [encoder.last])
    narrow = {name for name, parameter in encoder.named_parameters() if parameter.dtype == torch.bfloat16}
    assert narrow == {"middle.weight", "middle.bias"}
    assert encoder.frequency == torch.tensor(1 / 3)


def test_each_layer_gets_its_own_type() -> None:
    """Between layers all is bfloat16, a recurrent layer's tuple included; what comes out is float32, and near."""
    encoder, expected = made(), made()
    use_bfloat16([encoder], [encoder.last])
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}

    def note(name: str, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].dtype, (output[0] if isinstance(output, tuple) else output).dtype

    for name in ("hears", "norm", "middle", "remembers", "last"):
        encoder.get_submodule(name).register_forward_hook(lambda _, i, o, name=name: note(name, i, o))
    wave, scale = torch.randn(2, 1, 50, generator=torch.Generator().manual_seed(1)), torch.tensor(1.0)
    with torch.inference_mode():
        found = encoder(wave, scale=scale.to(torch.bfloat16))
        difference = (found - expected(wave, scale=scale)).abs().max()
    wide, half = torch.float32, torch.bfloat16
    assert seen == {
        "hears": (wide, half),
        "norm": (wide, half),
        "middle": (half, half),
        "remembers": (wide, half),
        "last": (wide, wide),
    }
    assert 0 < difference < 0.01


def test_a_first_layer_of_many_channels() -> None:
    """What hears a mel is named, for its channels do not tell."""
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Conv1d(8, 8, 3), nn.Conv1d(8, 2, 1))
    use_bfloat16([model], last=[model[2]], first=[model[0]])
    assert [layer.weight.dtype for layer in model] == [torch.float32, torch.bfloat16, torch.float32]
    with torch.inference_mode():
        assert model(torch.zeros(1, 4, 9)).dtype == torch.float32
