"""step_audio/upstream.py: FunASR's own classes behind our protocol."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
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
from audio_tokenizers.step_audio import encoder as ours
from audio_tokenizers.step_audio.backend import FACTORY
from audio_tokenizers.step_audio.files import read_cmvn
from audio_tokenizers.step_audio.frontend import CONTEXT_SAMPLES, Frontend
from audio_tokenizers.step_audio.tokenizer import StepAudioTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "step_audio.npz"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("model"))


def options(model: Path, **changes: Any) -> Options:
    return complete_options(FACTORY, {"model_path": str(model), "engine": "upstream", "raw_codes": True, **changes})


class StandInFrontend:
    """FunASR's WavFrontendOnline, as far as it is called: features of the next chunk."""

    def __init__(self, cmvn_file: str, dither: float, **_settings: object) -> None:
        self._frontend = Frontend(*read_cmvn(Path(cmvn_file)), dither)

    def __call__(self, chunk: Any, lengths: Any, cache: dict[str, Any], is_final: bool) -> tuple[Any, Any]:
        assert chunk.shape == (1, int(lengths[0]))
        assert is_final or chunk.shape[1] == 3840
        samples = np.concatenate((cache.get("before", np.zeros(0, np.float32)), chunk[0].numpy()))
        features = self._frontend.features_of_piece(samples, first="before" not in cache)
        cache["before"] = samples[-CONTEXT_SAMPLES:]
        return features[None], torch.tensor([len(features)])


class StandInEncoder(torch.nn.Module):
    """FunASR's SANMEncoderChunkOpt, as far as it is called: 5 frames of before, and the new ones."""

    def __init__(self, input_size: int, **conf: Any) -> None:
        super().__init__()
        assert input_size == 560
        names = {"width": "output_size", "heads": "attention_heads", "feed_forward": "linear_units"}
        names |= {"layers": "num_blocks", "kernel": "kernel_size"}
        own = ours._Encoder(SimpleNamespace(**{name: conf[key] for name, key in names.items()}))  # type: ignore[arg-type]
        self.encoders0, self.encoders, self.after_norm = own.encoders0, own.encoders, own.after_norm
        self._own = [own]  # in a list: its parameters are here already

    def output_size(self) -> int:
        return int(self.after_norm.weight.shape[0])

    def forward_chunk(self, features: Any, lengths: Any, cache: dict[str, Any], is_final: bool) -> tuple[Any, Any, None]:
        del is_final
        assert (cache["chunk_size"], cache["encoder_chunk_look_back"]) == ([0, 4, 5], 4)
        driver = cache.setdefault("driver", ours.ChunkEncoder(SimpleNamespace(encoder=self._own[0]), "cpu", 1))  # type: ignore[arg-type]
        state = cache.setdefault("state", driver.start())
        output = driver.advance(state, features[0])
        overlap = output.new_full((5, output.shape[1]), torch.nan)  # as FunASR gives it, and nobody may use it
        return torch.cat((overlap, output))[None], lengths, None


@pytest.fixture(params=["stand-in", "funasr"])
def funasr(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """FunASR's classes, and where they are not installed, those that do the same."""
    if request.param == "funasr":
        if importlib.util.find_spec("funasr") is None:
            pytest.skip("funasr is not installed: pip install -e '.[step-audio-upstream]'")
        return "funasr"
    frontends, encoders = ModuleType("funasr.frontends.wav_frontend"), ModuleType("funasr.models.scama.encoder")
    frontends.WavFrontendOnline = StandInFrontend  # type: ignore[attr-defined]
    encoders.SANMEncoderChunkOpt = StandInEncoder  # type: ignore[attr-defined]
    for name in ("funasr", "funasr.frontends", "funasr.models", "funasr.models.scama"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, frontends.__name__, frontends)
    monkeypatch.setitem(sys.modules, encoders.__name__, encoders)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.4.16" if name == "funasr" else real(name))
    return "stand-in"


def test_its_codes_are_those_of_stepfuns_code(model: Path, funasr: str) -> None:
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
                np.testing.assert_array_equal(values[key], file[f"{key}_{number}"], err_msg=f"{funasr}: {case}")
            compared += 1
    assert compared > 40


def test_the_recipe_is_another(model: Path, funasr: str) -> None:
    """It names the engine and FunASR's version. Our own engine's has no new key: runs that have begun continue."""
    assert funasr
    own = FACTORY.describe(options(model, engine="own"), "cpu").recipe
    info = FACTORY.describe(options(model), "cpu")
    assert "engine" not in own
    assert set(info.recipe) - set(own) == {"engine", "funasr"}
    assert (info.batching, info.max_batch) == (Batching.SINGLE, 1)
    before = {key: value for key, value in options(model, engine="own").items() if key != "engine"}
    assert FACTORY.describe(before, "cpu").recipe == own
    assert FACTORY.describe(options(model), "cuda:1").recipe["vq06_device"] == "cuda"


def test_dither_is_seeded_by_the_clip(model: Path, funasr: str) -> None:
    """As in our own engine: neither order nor company changes a token, and the process's generator is left alone."""
    assert funasr
    backend = FACTORY.load(options(model, dither=1.0), "cpu")
    state = torch.random.get_rng_state()
    clips = [Utterance(golden_audio.wave(golden_audio.pcm(9000, start))) for start in (0, 500)]
    first = [values["tokens"].tolist() for values in backend.encode_clips(clips)]
    assert [backend.encode_clips([clip])[0]["tokens"].tolist() for clip in reversed(clips)] == first[::-1]
    assert torch.equal(torch.random.get_rng_state(), state)
    plain = FACTORY.load(options(model), "cpu").encode_clips(clips)
    assert first != [values["tokens"].tolist() for values in plain]


def test_what_does_not_go_with_it(model: Path, funasr: str) -> None:
    """Sessions are our own engine's, which StepAudioTokenizer has."""
    assert funasr
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


def test_funasr_that_is_broken(model: Path, funasr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it could not import, and how to install it."""
    assert funasr
    monkeypatch.setitem(sys.modules, "funasr.frontends.wav_frontend", None)
    with pytest.raises(UsageError, match=r"cannot import funasr .*\.\[step-audio-upstream\]"):
        FACTORY.load(options(model), "cpu")
