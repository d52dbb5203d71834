"""Make golden/step_audio.npz and step_audio_streams.json by running StepFun's own StepAudioTokenizer on the tiny checkpoint.

    python tests/support/make_step_audio_golden.py STEP_AUDIO_EDITX

STEP_AUDIO_EDITX is a checkout of github.com/stepfun-ai/Step-Audio-EditX. The stored file was made on a CPU from commit
aacb90a2a4f43a977c38c6c824e67071296ab17b with torch 2.13.0, torchaudio 2.11.0, librosa 0.11.0, onnxruntime 1.31.1,
openai-whisper 20250625, numpy 2.4.6, transformers 5.23.0 and FunASR's dependencies (pip install funasr==1.4.16).

The checkout is run as it is, but for what needs a GPU or what only its demos need:

- `.cuda()` does nothing, `device=0` is the CPU, and onnxruntime gets its CPU provider;
- torchaudio.save and .load, which its WAV in memory goes through, are soundfile with 32-bit floats, as torchaudio's
  soundfile backend was (today's torchaudio wants torchcodec; its ffmpeg backend rounded to 16 bits);
- the module sox, which utils.py imports for two functions of the demo, is an empty one.

8 kHz, which upstream's own resample_audio refuses by an assertion, is resampled here by the transform behind it. Stored
per case: what to make the audio from, and vq02, vq06 and the string that upstream gave, or that it raised.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tokenizers")]

from support import golden_audio  # noqa: E402
from support.tiny_step_audio import FUNASR_DIRECTORY, build_step_audio, weights_digest  # noqa: E402

TARGET = ROOT / "tests" / "audio_tokenizers" / "golden" / "step_audio.npz"
STREAMS = TARGET.with_name("step_audio_streams.json")
STREAMED = (
    *((samples, (3840,)) for samples in (3840, 3841, 7680 + 879, 7680 + 880, 31_000)),
    *((31_000, pieces) for pieces in ((1700,), (100, 5000), (20_000, 1, 700), (480,), (40_000,))),
    *((samples, (960,)) for samples in (300, 960, 1440)),
)
"""(samples, sizes of the pieces in turn) of clips that get_vq02_code hears as sessions."""

AROUND_3840 = (3839, 3840, 3841, 7679, 7680, 7681, 11519, 11520, 11521, 15360, 38400, 38401, 76799, 76800)
AROUND_880 = (879, 880, 881, 3840 + 879, 3840 + 880, 7680 + 879, 7680 + 880, 15360 + 879, 15360 + 880)
AROUND_400 = (400, 479, 480, 481, 640, 3840 + 79, 3840 + 80, 3840 + 399, 3840 + 400, 3840 + 479, 3840 + 480)
STEPS = (1359, 1360, 1439, 1440, 1441, 2319, 2320, 3279, 3280, 3840 + 1360, 3840 + 2320, 3840 + 3280, 19200 + 2320)
AROUND_30_S = (479_999, 480_000, 480_479, 480_480, 481_440)
OTHERS = (16_000, 48_000, 96_000, 97_123)
RATES = {
    8000: (800, 12_345, 40_000),
    22_050: (33_333,),
    24_000: (2160, 50_001),
    44_100: (4000, 66_150),
    48_000: (4320, 99_999),
}


def cases() -> Iterator[dict[str, Any]]:
    """What to make the audio from, and upstream's arguments."""
    plain = {"kind": "pcm", "rate": 16_000, "start": 0, "trim": False, "energy_norm": True}
    for number, samples in enumerate(sorted({1, 79, 80, *AROUND_3840, *AROUND_880, *AROUND_400, *STEPS, *OTHERS})):
        yield plain | {"samples": samples, "start": 7919 * number}
    for number, samples in enumerate(AROUND_30_S):
        yield plain | {"samples": samples, "start": 1000 * number}
    for rate, lengths in RATES.items():
        for samples in lengths:
            yield plain | {"rate": rate, "samples": samples, "start": 100_000}
    for kind in ("silence", "square"):
        for samples in (1440, 4720, 16_001, 40_000):
            yield plain | {"kind": kind, "samples": samples}
    for energy_norm in (True, False):
        for samples, rate in ((1, 16_000), (900, 16_000), (20_000, 16_000), (100_000, 16_000), (70_000, 44_100)):
            yield plain | {"samples": samples, "rate": rate, "start": 47_000, "trim": True, "energy_norm": energy_norm}
    yield plain | {"kind": "silence", "samples": 5000, "trim": True}
    yield plain | {"kind": "square", "samples": 5000, "trim": True}
    for samples in (1440, 10_000, 60_000):
        yield plain | {"samples": samples, "start": 5000, "energy_norm": False}


def make_pcm(case: dict[str, Any]) -> golden_audio.Pcm:
    """int16 [samples] of a case."""
    if case["kind"] == "pcm":
        return golden_audio.pcm(case["samples"], case["start"])
    return {"silence": golden_audio.silence, "square": golden_audio.square}[case["kind"]](case["samples"])


def streams(upstream: Any) -> Iterator[dict[str, Any]]:
    """What each call of get_vq02_code for the pieces of a session gave."""
    import torch

    for number, (samples, sizes) in enumerate(STREAMED):
        wave = torch.from_numpy(golden_audio.wave(golden_audio.pcm(samples, 1000 * number)))[None]
        start = 0
        codes: list[Any] = []
        while start < samples:
            end = start + sizes[len(codes) % len(sizes)]
            codes.append(upstream.get_vq02_code(wave[:, start:end], "session", is_final=end >= samples))
            start = end
        yield {"samples": samples, "start": 1000 * number, "pieces": sizes, "codes": codes}


def _bring_to_the_cpu() -> None:
    import onnxruntime
    import soundfile
    import torch
    import torchaudio

    def save(file: Any, audio: torch.Tensor, rate: int, **form: str) -> None:
        soundfile.write(file, audio.T.numpy(), rate, format=form["format"].upper(), subtype="FLOAT")

    def load(file: Any) -> tuple[torch.Tensor, int]:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    def session(path: str, sess_options: Any, providers: list[str]) -> Any:
        return real_session(path, sess_options=sess_options, providers=["CPUExecutionProvider"])

    tensor: Any = torch.Tensor
    module: Any = torch.nn.Module
    tensor.cuda = module.cuda = lambda self: self
    real_to = tensor.to
    tensor.to = lambda self, *args, **named: real_to(self, *args, **{k: "cpu" if v == 0 else v for k, v in named.items()})
    real_session = onnxruntime.InferenceSession
    onnxruntime.InferenceSession = session
    torchaudio.save, torchaudio.load = save, load
    sys.modules["sox"] = types.ModuleType("sox")


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    _bring_to_the_cpu()
    import torch
    import torchaudio

    torch.set_num_threads(1)
    sys.path.insert(0, str(checkout))
    from tokenizer import StepAudioTokenizer

    stored: dict[str, Any] = {}
    listed = []
    with tempfile.TemporaryDirectory() as folder:
        model = build_step_audio(Path(folder) / "Step-Audio-Tokenizer")
        upstream = StepAudioTokenizer(str(model), model_source="local", funasr_model_id=FUNASR_DIRECTORY)
        for number, case in enumerate(cases()):
            wave = torch.from_numpy(golden_audio.wave(make_pcm(case)))[None]
            rate = case["rate"]
            if rate < 16_000:
                wave, rate = torchaudio.transforms.Resample(rate, 16_000)(wave), 16_000
            _, vq02, vq06 = upstream.wav2token(wave, rate, case["trim"], case["energy_norm"])
            text = upstream.merge_vq0206_to_token_str(vq02, vq06)
            stored[f"vq02_{number}"] = np.array(vq02, np.int16)
            stored[f"vq06_{number}"] = np.array(vq06, np.int16)
            tokens = [int(token) for token in text.replace("<audio_", "").split(">")[:-1]]
            assert text == "".join(f"<audio_{token}>" for token in tokens)
            stored[f"tokens_{number}"] = np.array(tokens, np.int16)
            listed.append(case)
        streamed = list(streams(upstream))
        stored["weights_sha256"] = np.array(weights_digest(model))
    stored["cases"] = np.array(json.dumps(listed))
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **stored)
    STREAMS.write_text("".join(f"{json.dumps(stream)}\n" for stream in streamed))
    print(len(listed), "cases,", TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
