"""Asynchronous calls of a network: they return before the GPU has finished, so that the next one can be prepared.

Without CUDA graphs: a captured call would replay the slices of its own clips' lengths (lanes.py), and reserve the memory of
its shape. Slicing 16 lanes costs the host about 1 ms per call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audio_tokenizers.base import Codes, LaneShape, Waveform
from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.shared.torch_device import on_device

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceCalls", "check_fit"]

Array = npt.NDArray[Any]


def check_fit(waves: Sequence[npt.NDArray[np.floating[Any]]], shape: LaneShape) -> None:
    """Raise InfrastructureError unless there are 1 to `shape.lanes` waves of at most `shape.samples` samples."""
    longest = max(map(len, waves), default=0)
    if not 1 <= len(waves) <= shape.lanes or longest > shape.samples:
        raise InfrastructureError(f"{len(waves)} clips, the longest of {longest} samples, in {shape}: a bug in the caller")


class DeviceCalls:
    """The calls of one backend that has lanes.

    On a GPU, inputs are copied from pinned memory on a stream of their own, and outputs are copied back to pinned memory
    after the work, with an event to wait for. torch reuses pinned memory only after its copy has ended. On a CPU and on MPS
    the work is finished when `begin` returns.
    """

    def __init__(self, device: str, lanes: int) -> None:
        import torch

        self._device = device
        self._copies = torch.cuda.Stream(device) if device.startswith("cuda") else None
        self._smaller = f"--set lanes={lanes // 2} (another recipe, so with another --output-dir)"

    def waves(self, rows: Sequence[npt.NDArray[np.float32]], shape: LaneShape) -> torch.Tensor:
        """float32 [lanes, samples] in the host's memory, zeros behind each wave and in the lanes without one."""
        check_fit(rows, shape)
        return self.stack(rows, (shape.lanes, shape.samples))

    def stack(self, rows: Sequence[Array], size: tuple[int, ...]) -> torch.Tensor:
        """float32 [`size`] in the host's memory: `rows` along the first axis, zeros behind each and where there is none."""
        import torch

        tensor = torch.empty(size, dtype=torch.float32, pin_memory=self._copies is not None)
        array = tensor.numpy()
        for place, row in zip(array, rows, strict=False):
            place[: len(row)] = row
            place[len(row) :] = 0
        array[len(rows) :] = 0
        return tensor

    def begin_codes(
        self,
        waves: Sequence[Waveform],
        shape: LaneShape,
        encode: Callable[[torch.Tensor], tuple[torch.Tensor, Sequence[int]]],
    ) -> Callable[[], list[Codes]]:
        """`begin` for a network that maps [lanes, samples] to codes [lanes, codebooks, frames] and each lane's frames.

        Returns a function that waits for the codes: one int16 array [codebooks, frames] per waveform.
        """
        frames: list[int] = []

        def work(batch: torch.Tensor) -> Sequence[torch.Tensor]:
            import torch

            codes, found = encode(batch)
            frames.extend(found[: len(waves)])
            return [codes.to(torch.int16)]

        finish = self.begin([self.waves(waves, shape)], work)
        return lambda: [codes[:, :count].copy() for codes, count in zip(finish()[0], frames, strict=False)]

    def begin(
        self, inputs: Sequence[torch.Tensor], work: Callable[..., Sequence[torch.Tensor]]
    ) -> Callable[[], list[Array]]:
        """Start `work(*inputs)` in inference mode, inputs on the device; returns a function that waits for the outputs.

        Both raise InfrastructureError if the machine is at fault; a GPU may report an error only when waited for.
        """
        outputs, done = on_device(self._device, lambda: self._launch(inputs, work), self._smaller)

        def finish() -> list[Array]:
            if done is not None:
                on_device(self._device, done.synchronize, self._smaller)
            return [output.numpy() for output in outputs]

        return finish

    def _launch(
        self, inputs: Sequence[torch.Tensor], work: Callable[..., Sequence[torch.Tensor]]
    ) -> tuple[Sequence[torch.Tensor], torch.cuda.Event | None]:
        import torch

        with torch.inference_mode():
            if self._copies is None:  # on a CPU nothing is copied
                there = [tensor.to(self._device) for tensor in inputs]
                return [result.cpu() for result in work(*there)], None
            with torch.cuda.device(self._device):
                computing = torch.cuda.current_stream()
                with torch.cuda.stream(self._copies):
                    there = [tensor.to(self._device, non_blocking=True) for tensor in inputs]
                computing.wait_stream(self._copies)
                for tensor in there:
                    tensor.record_stream(computing)  # else its memory could be reused while it is read
                outputs = []
                for result in work(*there):
                    output = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
                    outputs.append(output.copy_(result, non_blocking=True))
                # A thread that waits by spinning would take a core from those that decode.
                done = torch.cuda.Event(blocking=True)
                done.record(computing)
        return outputs, done
