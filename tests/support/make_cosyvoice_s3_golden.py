"""Make tests/audio_tokenizers/golden/cosyvoice_s3.npz by running CosyVoice's own tool on small random weights.

    python tests/support/make_cosyvoice_s3_golden.py COSYVOICE_CHECKOUT

COSYVOICE_CHECKOUT is a clone of github.com/FunAudioLLM/CosyVoice at ace7c47f41bbd303aa6bf1ea80e6f9fbd595cd40, whose
tools/extract_speech_token.py runs as it is, from wav.scp to utt2speech_token.pt. Without CUDA onnxruntime takes the CPU.
torchaudio.load is replaced by what its soundfile backend did (newer ones than 2.8 have none): soundfile.read as float32.
Made with Python 3.11.7, torch 2.13.0+cpu, torchaudio 2.11.0, onnxruntime 1.31.1, openai-whisper 20250625, soundfile 0.14.0,
numpy 2.4.6, onnx 1.23.2.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.golden_audio import pcm, silence, square
from support.tiny_s3 import build_s3_onnx, initializers_sha256

__all__ = ["CASES", "GOLDEN", "VARIANTS", "Case"]

GOLDEN = Path(__file__).parents[1] / "audio_tokenizers" / "golden" / "cosyvoice_s3.npz"
VARIANTS: dict[str, tuple[Literal["v1", "v2"], Literal[25, 50]]] = {
    "v1_25": ("v1", 25),
    "v1_50": ("v1", 50),
    "v2_25": ("v2", 25),
}


@dataclass(frozen=True)
class Case:
    rate: int
    samples: int
    start: int = 0
    sound: Literal["speech", "silence", "square"] = "speech"
    channels: int = 1

    def audio(self) -> npt.NDArray[np.int16]:
        """int16 [samples, channels] at `rate`."""
        if self.sound != "speech":
            make = silence if self.sound == "silence" else square
            return np.stack([make(self.samples)] * self.channels, axis=1)
        return np.stack([pcm(self.samples, self.start + 7777 * channel) for channel in range(self.channels)], axis=1)


AROUND = (320, 400, 480, 640, 960, 1280, 1600, 1920, 3840)
LENGTHS = (201, 202, 240, *(edge + offset for edge in AROUND for offset in (-1, 0, 1)), 16000, 47840)
CASES = (
    *(Case(16000, samples, 4000 + 311 * number) for number, samples in enumerate(LENGTHS)),
    Case(16000, 479999, 20000),
    Case(16000, 480000),
    # 101 samples at 8 kHz are 202, and so on: the shortest that upstream takes, at each rate.
    *(Case(8000, samples, 5000 + samples) for samples in (101, 102, 160, 320, 4000, 24001)),
    *(Case(22050, samples, 5000 + samples) for samples in (277, 40000)),
    *(Case(24000, samples, 5000 + samples) for samples in (301, 302, 960, 24000, 50001)),
    *(Case(44100, samples, 5000 + samples) for samples in (552, 555, 1764, 44100, 100003)),
    *(Case(48000, samples, 5000 + samples) for samples in (601, 603, 1920, 48000, 96001)),
    Case(8000, 240000, 1000),
    Case(48000, 1440000, 3000),
    *(Case(16000, samples, sound="silence") for samples in (201, 8000)),
    *(Case(16000, samples, sound="square") for samples in (201, 8000, 32001)),
    Case(44100, 22050, sound="silence"),
    Case(44100, 22050, sound="square"),
    Case(16000, 20000, 9000, channels=2),
    Case(48000, 60000, 9000, channels=2),
)


def upstream_tokens(checkout: Path, onnx: Path, work: Path) -> list[list[int]]:
    """What the tool makes of each case."""
    import torch
    import torchaudio

    def load(path: str, backend: str) -> tuple[Any, int]:
        assert backend == "soundfile"
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    torchaudio.load = load
    for number, case in enumerate(CASES):
        soundfile.write(work / f"{number}.wav", case.audio(), case.rate, subtype="PCM_16")
    (work / "wav.scp").write_text("".join(f"{number} {work}/{number}.wav\n" for number in range(len(CASES))))
    tool = checkout / "tools" / "extract_speech_token.py"
    sys.argv = [str(tool), "--dir", str(work), "--onnx_path", str(onnx), "--num_thread", "2"]
    runpy.run_path(str(tool), run_name="__main__")
    found = torch.load(work / "utt2speech_token.pt")
    return [found[str(number)] for number in range(len(CASES))]


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    arrays: dict[str, Any] = {"cases": np.array(json.dumps([asdict(case) for case in CASES]))}
    for name, (version, rate) in VARIANTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            onnx = build_s3_onnx(Path(scratch) / "speech_tokenizer.onnx", version, rate)
            tokens = upstream_tokens(checkout, onnx, Path(scratch))
            arrays[f"{name}_sha256"] = np.array(initializers_sha256(onnx))
        arrays[f"{name}_counts"] = np.array([len(case) for case in tokens], np.int16)
        arrays[f"{name}_tokens"] = np.concatenate([np.array(case, np.int16) for case in tokens])
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {len(CASES)} cases, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
