"""step_audio/upstream.py: FunASR's own classes behind our protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import golden_audio
from support.tiny_step_audio import build_step_audio

from audio_tokenizers.base import Batching, Options, Utterance
from audio_tokenizers.errors import UsageError
from audio_tokenizers.registry import complete_options
from audio_tokenizers.shared import extras
from audio_tokenizers.step_audio.backend import FACTORY
from audio_tokenizers.step_audio.tokenizer import StepAudioTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "step_audio.npz"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("model"))


def options(model: Path, **changes: Any) -> Options:
    return complete_options(FACTORY, {"model_path": str(model), "engine": "upstream", "raw_codes": True, **changes})


def test_its_codes_are_those_of_stepfuns_code(model: Path) -> None:
    """vq02 and vq06 of each stored clip that has tokens, around all boundaries of length."""
    backends = {trim: FACTORY.load(options(model, trim=trim), "cpu") for trim in (False, True)}
    with np.load(GOLDEN) as file:
        cases = json.loads(str(file["cases"]))
        compared = 0
        for number, case in enumerate(cases):
            if case["rate"] != 16_000 or not case["energy_norm"] or case["samples"] > 60_000:
                continue
            made = getattr(golden_audio, case["kind"])
            samples = made(case["samples"], case["start"]) if case["kind"] == "pcm" else made(case["samples"])
            backend = backends[case["trim"]]
            if len(samples) < backend.info.min_samples:
                continue
            (values,) = backend.encode_clips([Utterance(golden_audio.wave(samples))])
            for key in ("tokens", "vq02", "vq06"):
                np.testing.assert_array_equal(values[key], file[f"{key}_{number}"], err_msg=str(case))
            compared += 1
    assert compared > 40


def test_the_recipe_is_another(model: Path) -> None:
    """It names the engine and FunASR's version. Our own engine's has no new key: runs that have begun continue."""
    own = FACTORY.describe(options(model, engine="own"), "cpu").recipe
    info = FACTORY.describe(options(model), "cpu")
    assert "engine" not in own
    assert set(info.recipe) - set(own) == {"engine", "funasr"}
    assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)
    before = {key: value for key, value in options(model, engine="own").items() if key != "engine"}
    assert FACTORY.describe(before, "cpu").recipe == own
    assert FACTORY.describe(options(model), "cuda:1").recipe["vq06_device"] == "cuda"


def test_dither_is_seeded_by_the_clip(model: Path) -> None:
    """As in our own engine: neither order nor company changes a token, and the process's generator is left alone."""
    backend = FACTORY.load(options(model, dither=1.0), "cpu")
    state = torch.random.get_rng_state()
    clips = [Utterance(golden_audio.wave(golden_audio.pcm(9000, start))) for start in (0, 500)]
    first = [values["tokens"].tolist() for values in backend.encode_clips(clips)]
    assert [backend.encode_clips([clip])[0]["tokens"].tolist() for clip in reversed(clips)] == first[::-1]
    assert torch.equal(torch.random.get_rng_state(), state)
    plain = FACTORY.load(options(model), "cpu").encode_clips(clips)
    assert first != [values["tokens"].tolist() for values in plain]


def test_what_does_not_go_with_it(model: Path) -> None:
    """Sessions are our own engine's, which StepAudioTokenizer has."""
    backend = FACTORY.load(options(model), "cpu")
    with pytest.raises(UsageError, match="a stream needs engine=own"):
        backend.stream(np.zeros(4000, np.float32), "live", is_final=False)
    assert StepAudioTokenizer(model, device="cpu")(np.zeros(4000), 16_000)
    with pytest.raises(UsageError, match="expected own or upstream, found 'funasr'"):
        FACTORY.describe(options(model, engine="funasr"), "cpu")


def test_what_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package and its extra, whether it is not there or cannot be imported."""
    real = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "funasr" and real(name))
    with pytest.raises(UsageError, match=r"needs funasr: pip install -e '\.\[step-audio-upstream\]'"):
        FACTORY.describe(options(model), "cpu")


def test_standard_output_is_left_to_commands() -> None:
    """FunASR says there what it lacks. In a new process, which imports it for the first time, nothing of it gets there."""
    script = "from audio_tokenizers.step_audio.upstream import funasr_classes; print(len(funasr_classes()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


def test_funasr_that_is_broken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it could not import, and how to install it."""
    monkeypatch.setitem(sys.modules, "funasr.frontends.wav_frontend", None)
    with pytest.raises(UsageError, match=r"cannot import funasr .*\.\[step-audio-upstream\]"):
        FACTORY.load(options(model), "cpu")
