"""The S3 tokenizers in torch: s3tokenizer's modules, with a forward pass whose result for a clip knows no other clip.

The reference is the ONNX graph itself; s3tokenizer (github.com/xingchensong/S3Tokenizer) is its port. That pads a batch to
its longest clip and masks the rest, which moves hidden states by some 1e-5, for a product of another shape sums in another
order; a token that stands near a border moves with them. Here nothing is padded. The tokens of all clips stand one behind
the other; what mixes tokens (convolutions, attention) runs clip by clip, and what does not runs in tiles of always as many
rows, so that each product has the shape that it would have if the clip were alone.

On a GPU the host waits for nothing but the tokens: waveforms go over from pinned memory, many at a time, and their mels are
made there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Waveform
from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.options import Precision
from audio_tokenizers.shared.s3_mel import LogMel
from audio_tokenizers.shared.s3_onnx import MEL_HOP, S3Variant
from audio_tokenizers.shared.torch_device import fix_arithmetic
from audio_tokenizers.shared.weights import Naming, Weights
from audio_tokenizers.shared.wording import first_line

if TYPE_CHECKING:
    import torch

__all__ = ["TorchEncoder", "rows_per_product"]

HEAD = 64
"""Channels of an attention head, in every Whisper."""
MOST_ROWS = 16384
"""Tokens that pass through the layers at once: under 1 GB of activations, and over five minutes of audio."""
Tokens = npt.NDArray[np.integer[Any]]
"""integers [tokens]."""
MODEL = Naming(parts=("encoder", "quantizer"))
BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")


def rows_per_product(device: str) -> int:
    """Tokens per tile. It decides tokens, as any shape does."""
    # Enough to keep a device busy, and not more: the last tile of a batch is filled up with nothing.
    return 256 if device == "cpu" else 1024


class TorchEncoder:
    """An S3 tokenizer on one device, for many pieces at a time."""

    def __init__(
        self, path: Path, variant: S3Variant, device: str, precision: Precision = "fp32", *, batch_axis: bool = True
    ) -> None:
        """Read the weights in the ONNX file at `path`. Raises ModelFilesError unless they are just those of `variant`.

        The mel, the first convolution and the quantizer are never in bfloat16. `batch_axis`: whether the mel is made of
        [1, samples], as CosyVoice has it, or of [samples], as Step-Audio.
        """
        import torch

        self._device = device
        self._rows = rows_per_product(device)
        model = _load(path, variant).to(device)
        self._encoder = model.encoder
        self._log_mel = LogMel(device)
        self._batch_axis = batch_axis
        self._tf32 = precision == "tf32"
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        if precision == "bf16":
            _narrow(model.encoder)
        self._quantizer = model.quantizer
        self._rotation = model.encoder.freqs_cis.to(device) if variant.version == "v2" else None

    def encode(self, waves: Sequence[Waveform]) -> list[Tokens]:
        """float32 [samples] of pieces of 201 samples to 30 s at 16 kHz, in any number and lengths -> the tokens of each."""
        return self.begin(waves)()

    def begin(self, waves: Sequence[Waveform]) -> Callable[[], list[Tokens]]:
        """Begin to `encode`. Returns before a GPU has done it; what is returned waits for the tokens."""
        import torch

        codes: list[torch.Tensor] = []
        counts: list[int] = []
        with torch.inference_mode():
            for group in _groups(waves):
                hidden, lengths = self.hidden_states(self._on_device(group))
                codes += self._in_tiles(self._quantize, hidden)
                counts += lengths
            found = torch.cat(codes) if codes else None
        return lambda: [] if found is None else np.split(found.cpu().numpy(), np.cumsum(counts)[:-1])

    def _on_device(self, group: Sequence[Waveform]) -> list[torch.Tensor]:
        """One copy for all waves; the host does not wait for it."""
        import torch

        on_cuda = self._device.startswith("cuda")
        whole = torch.empty(sum(map(len, group)), pin_memory=on_cuda)
        np.concatenate(group, out=whole.numpy())
        # On MPS a copy that nothing waits for may read memory that is already reused.
        return list(whole.to(self._device, non_blocking=on_cuda).split_with_sizes([len(wave) for wave in group]))

    def hidden_states(self, waves: Iterable[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
        """What is quantized, of waveforms on the device: floats [rows, width], one behind the other, and each one's rows."""
        import torch

        fix_arithmetic(tf32=False)
        mels = [self._log_mel(wave[None] if self._batch_axis else wave) for wave in waves]
        fix_arithmetic(tf32=self._tf32)
        parts = [self._subsampled(mel.reshape(mel.shape[-2:])) for mel in mels]
        del mels
        lengths = [part.shape[0] for part in parts]
        rows = torch.cat(parts)
        del parts
        for block in self._encoder.blocks:
            rows = self._block(block, rows, lengths)
        return rows, lengths

    def _subsampled(self, mel: torch.Tensor) -> torch.Tensor:
        """float32 [128, frames] -> floats [tokens, width], of one piece."""
        import torch

        frames = torch.nn.functional.gelu(self._encoder.conv1(mel[None]).to(self._dtype))
        rows = torch.nn.functional.gelu(self._encoder.conv2(frames))[0].T.contiguous()
        if self._rotation is None:
            rows += self._encoder.positional_embedding[: rows.shape[0]]
        return rows

    def _block(self, block: Any, rows: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:  # noqa: ANN401 - no types
        """One layer over all pieces: floats [rows, width] -> the same."""
        import torch

        def project(tile: torch.Tensor) -> tuple[torch.Tensor, ...]:
            tile = block.attn_ln(tile)
            return block.attn.query(tile), block.attn.key(tile), block.attn.value(tile)

        def finish(tile: torch.Tensor, mixed: torch.Tensor, *memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
            attended = block.attn.out(mixed)
            tile = tile + (attended + memory[0] if memory else attended)
            return (tile + block.mlp(block.mlp_ln(tile)),)

        projected = zip(*(part.split_with_sizes(list(lengths)) for part in self._in_tiles(project, rows)), strict=True)
        attended = [self._attention(block, *parts) for parts in projected]
        mixed = [torch.cat(parts) for parts in zip(*attended, strict=True)]
        return self._in_tiles(finish, rows, *mixed)[0]

    def _attention(
        self,
        block: Any,  # noqa: ANN401 - no types
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Of one piece: what its tokens heard of each other, and v2's memory; floats [tokens, width] all."""
        triple = query[None], key[None], value[None]
        if self._rotation is None:
            return (block.attn.qkv_attention(*triple)[0][0],)
        nothing_masked = query.new_ones(1, query.shape[0], 1)
        mixed, _, memory = block.attn.qkv_attention(*triple, None, nothing_masked, self._rotation[: query.shape[0]])
        return mixed[0], memory[0]

    def _quantize(self, tile: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self._quantizer.encode(tile[None].float())[0],)

    def _in_tiles(
        self, function: Callable[..., tuple[torch.Tensor, ...]], *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`function` of [rows, ...] that knows only its own row, over tiles of the same number of rows."""
        import torch

        count = inputs[0].shape[0]
        outputs = []
        for start in range(0, count, self._rows):
            tiles = [value[start : start + self._rows] for value in inputs]
            lacking = self._rows - tiles[0].shape[0]
            if lacking:
                tiles = [torch.nn.functional.pad(tile, (0, 0, 0, lacking)) for tile in tiles]
            outputs.append(function(*tiles))
        return tuple(torch.cat(parts)[:count] for parts in zip(*outputs, strict=True))


def _narrow(encoder: Any) -> None:  # noqa: ANN401 - no types
    """Products and convolutions in bfloat16; s3tokenizer's norms compute in float32 whatever comes."""
    import torch

    for module in encoder.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d)) and module is not encoder.conv1:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)


def _groups(waves: Sequence[Waveform]) -> Iterator[list[Waveform]]:
    """Pieces in order, as many at a time as MOST_ROWS allows."""
    group: list[Waveform] = []
    samples = 0
    for wave in waves:
        # A token comes from two frames or four.
        if group and samples + len(wave) > 2 * MOST_ROWS * MEL_HOP:
            yield group
            group, samples = [], 0
        group.append(wave)
        samples += len(wave)
    if group:
        yield group


def _load(path: Path, variant: S3Variant) -> Any:  # noqa: ANN401 - its modules have no types
    """s3tokenizer's module with the weights in the file. Its own load_model goes by the path's name and full size only."""
    import torch
    from s3tokenizer.model import ModelConfig, S3Tokenizer
    from s3tokenizer.model_v2 import ModelConfig as ModelConfigV2
    from s3tokenizer.model_v2 import S3TokenizerV2

    state = _read_weights(path)
    width = state["encoder.conv1.weight"].shape[0] if "encoder.conv1.weight" in state else 0
    if not width or width % HEAD:
        raise ModelFilesError(f"{path}: expected convolutions of a multiple of {HEAD} channels, found {width}")
    sizes: dict[str, Any] = {
        "n_audio_state": width,
        "n_audio_head": width // HEAD,
        "n_audio_layer": 1 + max((int(found[1]) for found in map(BLOCK.match, state) if found), default=-1),
        "n_codebook_size": variant.codebook_size,
    }
    # These classes take the rate from the name.
    if variant.version == "v2":
        model = S3TokenizerV2("speech_tokenizer_v2_25hz", ModelConfigV2(**sizes))
    else:
        name = "speech_tokenizer_v1_25hz" if variant.rate == 25 else "speech_tokenizer_v1"
        model = S3Tokenizer(name, ModelConfig(**sizes))
    Weights([path], MODEL, "the class of s3tokenizer").take(state).fill(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            # The same numbers with the input channels outermost, as in the file: MKL is 5 % faster so.
            module.weight.data = module.weight.data.T.contiguous().T
    return model


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The initializers, under the names of s3tokenizer's modules."""
    from s3tokenizer.utils import onnx2torch

    try:
        state: dict[str, torch.Tensor] = onnx2torch(str(path))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise ModelFilesError(
            f"{path}: expected the initializers of the published file, found others ({reason}): download it again, or, "
            "of cosyvoice_s3, take `engine: onnx`, which runs any graph"
        ) from None
    return state
