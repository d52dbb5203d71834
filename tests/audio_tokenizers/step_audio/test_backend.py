from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from support import golden_audio
from support.tiny_step_audio import FUNASR_DIRECTORY, build_step_audio, weights_digest

from audio_tokenizers.base import BackendInfo, Batching, Scalar, Utterance
from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.step_audio import backend as step_audio
from audio_tokenizers.step_audio.backend import FACTORY, StepAudio, merge

GOLDEN = Path(__file__).parents[1] / "golden" / "step_audio.npz"
DEFAULTS = {name: default for name, (default, _) in FACTORY.options.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def golden() -> dict[str, npt.NDArray[Any]]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def load(model: Path) -> Callable[..., StepAudio]:
    loaded: dict[tuple[tuple[str, Scalar], ...], StepAudio] = {}

    def make(**changes: Scalar) -> StepAudio:
        key = tuple(sorted(changes.items()))
        if key not in loaded:
            loaded[key] = FACTORY.load(DEFAULTS | {"model_path": str(model)} | changes, "cpu")
        return loaded[key]

    return make


def describe(directory: Path, device: str = "cpu", **changes: Scalar) -> BackendInfo:
    return FACTORY.describe(DEFAULTS | {"model_path": str(directory)} | changes, device)


def pcm_of(case: dict[str, Any]) -> golden_audio.Pcm:
    if case["kind"] == "pcm":
        return golden_audio.pcm(case["samples"], case["start"])
    return {"silence": golden_audio.silence, "square": golden_audio.square}[case["kind"]](case["samples"])


def clip(samples: int, start: int = 0) -> npt.NDArray[Any]:
    return golden_audio.wave(golden_audio.pcm(samples, start))


def tokens(backend: StepAudio, *waves: npt.NDArray[Any]) -> list[list[int]]:
    return [values["tokens"].tolist() for values in backend.encode_clips([Utterance(wave) for wave in waves])]


def test_the_golden_tokens_are_of_this_checkpoint_and_vary(model: Path, golden: dict[str, npt.NDArray[Any]]) -> None:
    """A generator that drifted is named as such; codes that hardly vary would agree by chance."""
    assert weights_digest(model) == str(golden["weights_sha256"])
    cases = json.loads(str(golden["cases"]))
    assert len(cases) >= 60
    assert {case["rate"] for case in cases} == {8000, 16000, 22050, 24000, 44100, 48000}
    for name in ("vq02", "vq06"):
        assert len(np.unique(np.concatenate([golden[f"{name}_{n}"] for n in range(len(cases))]))) > 50


def test_codes_and_tokens_equal_those_of_stepfuns_code(
    load: Callable[..., StepAudio], golden: dict[str, npt.NDArray[Any]]
) -> None:
    """Each code that upstream gave: around all boundaries of length, 8 to 48 kHz, silence, full scale, trimmed or not."""
    differing, compared = [], 0
    cases = json.loads(str(golden["cases"]))
    for kind in sorted({(case["trim"], case["energy_norm"]) for case in cases}):
        backend = load(trim=kind[0], energy_norm=kind[1], raw_codes=True)
        numbers = [n for n, case in enumerate(cases) if (case["trim"], case["energy_norm"]) == kind]
        waves = {n: backend.resample(golden_audio.wave(pcm_of(cases[n])), cases[n]["rate"]) for n in numbers}
        whole = [n for n in numbers if len(waves[n]) >= backend.info.min_samples]
        results = dict(zip(whole, backend.encode_clips([Utterance(waves[n]) for n in whole]), strict=True))
        for number in set(numbers) - set(whole):
            vq02, vq06 = backend.codes(waves[number])
            results[number] = {"tokens": merge(vq02, vq06), "vq02": vq02, "vq06": vq06}
        for number, values in results.items():
            compared += 1
            if not all(np.array_equal(values[key], golden[f"{key}_{number}"]) for key in ("tokens", "vq02", "vq06")):
                differing.append(cases[number])
    assert not differing
    assert compared == len(cases)


def test_the_shortest_clip_is_the_shortest_with_a_token(
    load: Callable[..., StepAudio], golden: dict[str, npt.NDArray[Any]]
) -> None:
    """1440 samples, by upstream's own results; a shorter clip is an error of its own kind and never an empty string."""
    cases = json.loads(str(golden["cases"]))
    plain = {
        case["samples"]: len(golden[f"tokens_{n}"])
        for n, case in enumerate(cases)
        if case["rate"] == 16000 and not case["trim"]
    }
    assert plain[1439] == 0
    assert min(samples for samples, count in plain.items() if count) == 1440 == load().info.min_samples
    for wave in (clip(1439), clip(0)):
        with pytest.raises(ClipError, match="needs 1440") as caught:
            tokens(load(), wave)
        assert caught.value.kind == "too_short"
    assert load(trim=True).info.min_samples == 1
    with pytest.raises(ClipError):
        load().codes(clip(0))


def test_a_batch_of_any_composition_gives_the_tokens_of_single_clips(load: Callable[..., StepAudio]) -> None:
    """Neither company nor order changes a token, whatever the lengths; 40 clips are more than go side by side."""
    backend = load()
    rng = np.random.default_rng(0)
    lengths = [1440, 3840, 3841, 4720, 7680 + 880, *rng.integers(1440, 8000, 35)]
    waves = [clip(int(n), 1000 * i) for i, n in enumerate(lengths)]
    alone = [tokens(backend, wave)[0] for wave in waves]
    assert tokens(backend, *waves) == alone
    order = rng.permutation(len(waves))
    for start in range(0, len(waves), 7):
        chosen = order[start : start + 7]
        assert tokens(backend, *(waves[i] for i in chosen)) == [alone[i] for i in chosen]


def test_what_the_options_add(load: Callable[..., StepAudio]) -> None:
    """The keys that a record may have are declared with their ranges and rates, and come in that order."""
    wave = clip(50_000)
    backend = load(raw_codes=True, shifted_ids=True)
    values = backend.encode_clips([Utterance(wave)])[0]
    assert list(values) == [field.name for field in backend.info.fields] == ["tokens", "token_ids", "vq02", "vq06"]
    for field in backend.info.fields:
        codes = values[field.name]
        assert field.lowest <= codes.min() <= codes.max() < field.lowest + field.codebook_size
        assert field.samples_per_item is not None
        assert abs(len(codes) * field.samples_per_item - len(wave)) <= field.slack * field.samples_per_item
    assert [field.codebook_size for field in backend.info.fields] == [5120, 5120, 1024, 4096]
    assert [field.form for field in backend.info.fields] == ["audio_string", "list", "list", "list"]
    assert values["token_ids"].tolist() == [65536 + token for token in values["tokens"].tolist()]
    assert values["tokens"][:5].tolist() == [*values["vq02"][:2], *(values["vq06"][:3] + 1024)]
    assert [field.name for field in load().info.fields] == ["tokens"]
    assert {field.samples_per_item for field in load(trim=True, raw_codes=True).info.fields} == {None}


def test_no_clip_is_beyond_the_declared_slack() -> None:
    """A complete record never looks as if audio were missing: from the published length formulas, up to minutes."""
    from audio_tokenizers.step_audio.frontend import frame_count

    pieces = [*range(1440, 30_000), *range(479_000, 490_000), *range(959_000, 970_000), 9_600_000, 9_600_479, 9_600_879]
    slack = {"tokens": 0.0, "vq02": 0.0, "vq06": 0.0}
    for n in pieces:
        rest = n % 480_000
        vq06 = n // 480_000 * 750 + (math.ceil(math.ceil(rest // 160 / 2) / 2) if rest >= 480 else 0)
        groups = min(frame_count(n) // 2, vq06 // 3)
        assert groups > 0
        for name, items, per_item in (("tokens", 5 * groups, 384), ("vq02", frame_count(n), 960), ("vq06", vq06, 640)):
            slack[name] = max(slack[name], abs(items * per_item - n) / per_item)
    assert 3.5 < slack["tokens"] <= 5
    assert slack["vq02"] < 2
    assert slack["vq06"] < 2


@pytest.mark.parametrize("lengths", [(0, 0), (1, 0), (2, 2), (2, 3), (5, 7), (4, 9), (16, 25), (502, 753)])
def test_merging_takes_whole_groups_of_two_and_three(lengths: tuple[int, int]) -> None:
    """As upstream's two loops, which always agree: the rest of either list is dropped."""
    vq02, vq06 = np.arange(lengths[0], dtype=np.int16), np.arange(lengths[1], dtype=np.int16)
    expected: list[int] = []
    for group in range(min(lengths[0] // 2, lengths[1] // 3)):
        expected += [2 * group, 2 * group + 1, *(1024 + 3 * group + i for i in range(3))]
    assert merge(vq02, vq06).tolist() == expected


@pytest.mark.parametrize("pieces", [(3840,), (1, 3839, 1), (100, 5000), (7680, 1, 20_000), (1700,), (40_000,)])
def test_a_stream_gives_the_codes_of_the_whole_clip(load: Callable[..., StepAudio], pieces: tuple[int, ...]) -> None:
    """However a clip is cut, and beside other sessions; pieces as short as one sample only wait for more."""
    backend = load(energy_norm=False)
    for total in (300, 880, 5000, 15_360, 23_000):
        wave = clip(total, 12_345)
        codes, start, number = [], 0, 0
        while True:
            end = start + pieces[number % len(pieces)]
            codes.append(backend.stream(wave[start:end], "first", is_final=end >= total))
            backend.stream(clip(4000, number), "second", is_final=False)
            if end >= total:
                break
            start, number = end, number + 1
        backend.stream(clip(0), "second", is_final=True)
        assert np.concatenate(codes).tolist() == backend.codes(wave)[0].tolist()
    assert not backend._sessions


def test_a_stream_emits_four_codes_each_240_ms(load: Callable[..., StepAudio]) -> None:
    """Codes come as soon as there is no doubt of them; a rest under 880 samples never makes one."""
    backend = load(energy_norm=False)
    counts = [len(backend.stream(clip(1920, 1920 * i), "live", is_final=False)) for i in range(4)]
    assert counts == [0, 4, 0, 4]
    assert len(backend.stream(clip(879), "live", is_final=True)) == 0


def test_dither_is_seeded_by_the_clip_itself(load: Callable[..., StepAudio]) -> None:
    """With noise too, order, company and a new process change no token, and the process's own generator is left alone."""
    import torch

    backend = load(dither=1.0)
    waves = [clip(9000), np.zeros(9000, np.float32), clip(20_000, 7)]
    state = torch.random.get_rng_state()
    first = tokens(backend, *waves)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert tokens(backend, *reversed(waves)) == first[::-1]
    assert [tokens(backend, wave)[0] for wave in waves] == first
    assert first != tokens(load(), *waves)
    with pytest.raises(UsageError, match="dither"):
        backend.stream(clip(4000), "live", is_final=True)


def test_vq06_runs_beside_vq02_on_one_thread_per_call(
    load: Callable[..., StepAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both halves of a batch overlap: vq06 has begun before vq02 is through, in threads of its own."""
    backend = load()
    begun = threading.Event()
    names = []
    real_vq06, real_vq02 = backend._vq06, backend._vq02

    def vq06(wave: Any) -> Any:
        names.append(threading.current_thread().name)
        begun.set()
        return real_vq06(wave)

    def vq02(waves: Any) -> Any:
        assert begun.wait(100)
        return real_vq02(waves)

    monkeypatch.setattr(backend, "_vq06", vq06)
    monkeypatch.setattr(backend, "_vq02", vq02)
    assert len(tokens(backend, clip(4000), clip(8000))) == 2
    assert [name.startswith("vq06") for name in names] == [True, True]
    assert backend._onnx._session.get_session_options().intra_op_num_threads == 1


def test_trouble_in_either_half_is_reported_as_what_it_is(
    load: Callable[..., StepAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running out of memory is the machine's fault on both sides, and the backend goes on with the next clip."""
    backend = load()

    def exhaust(*_args: object) -> None:
        raise MemoryError

    session = backend._onnx._session
    for part, name in ((backend._encoder, "encode"), (session, "run"), (step_audio, "_log_mel"), (backend, "_prepare")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, exhaust)
            with pytest.raises(InfrastructureError, match="out of memory"):
                tokens(backend, clip(4000))
    assert len(tokens(backend, clip(4000))[0]) == 10


def test_what_is_described(model: Path) -> None:
    """What the pipeline plans with."""
    info = describe(model)
    assert (info.sample_rate, info.hop_length, info.mono, info.max_tokens_per_fragment) == (16000, 384, "mean", None)
    assert (info.batching, info.needs_text) == (Batching.ANY, False)
    assert info.max_batch > 1


def test_there_is_no_bfloat16(model: Path) -> None:
    """vq02's steps would gain nothing; TF32 goes by its newer word as well."""
    with pytest.raises(UsageError, match="expected fp32 or tf32, found bf16: vq02"):
        describe(model, precision="bf16")
    assert describe(model, precision="tf32") == describe(model, tf32=True)


def test_the_recipe_changes_with_what_decides_a_token_and_with_nothing_else(
    model: Path, tmp_path: Path, load: Callable[..., StepAudio]
) -> None:
    """Runs are compared by it: a copy elsewhere continues a run; other weights, rounding, noise or device do not."""
    recipe = describe(model).recipe
    moved = shutil.copytree(model, tmp_path / "moved")
    assert describe(moved).recipe == recipe == load().info.recipe
    assert describe(moved, raw_codes=True, shifted_ids=True).recipe == recipe
    changed = {
        "tf32": describe(model, tf32=True).recipe,
        "dither": describe(model, dither=1).recipe,
        "energy_norm": describe(model, energy_norm=False).recipe,
    }
    for key, value in changed.items():
        assert {name for name in recipe if recipe[name] != value[name]} == {key}
    gpu = describe(model, "cuda:1").recipe
    assert {name for name in recipe if recipe[name] != gpu.get(name)} == {"device", "vq06_device", "lanes", "onnxruntime"}
    assert set(gpu) - set(recipe) == {"vq06_rows_per_product", "windows_per_product", "s3tokenizer"}
    trimmed = describe(model, trim=True).recipe
    assert trimmed["trim"] is True
    assert "librosa" in set(trimmed) - set(recipe)
    for name in ("linguistic_tokenizer.npy", "speech_tokenizer_v1.onnx", f"{FUNASR_DIRECTORY}/am.mvn"):
        other = shutil.copytree(model, tmp_path / "other", dirs_exist_ok=True)
        (other / name).write_bytes((other / name).read_bytes().replace(b"1", b"2", 1) + b"\n")
        try:
            found = describe(other).recipe
        except UsageError:
            continue
        assert found["weights_sha256"] != recipe["weights_sha256"]
    config = moved / FUNASR_DIRECTORY / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"note": 1}))
    assert describe(moved).recipe["config_sha256"] != recipe["config_sha256"]
    assert {"torch", "torchaudio", "onnxruntime", "openai-whisper"} < set(recipe)


@pytest.mark.parametrize("dither", [True, -1.0, "loud", None, 32768])
def test_dither_is_a_loudness(model: Path, dither: bool | float | str | None) -> None:
    """A slip in a preset is found before a job is submitted."""
    with pytest.raises(UsageError, match="dither: expected a number"):
        describe(model, dither=dither)


def test_the_preset_is_the_defaults() -> None:
    """`--backend step_audio` without a preset and with it are one recipe."""
    preset = yaml.safe_load((Path(__file__).parents[3] / "jobs" / "step_audio.yaml").read_text())
    assert preset["backend"] == "step_audio"
    assert DEFAULTS | preset["options"] == DEFAULTS


@pytest.mark.parametrize("tf32", [False, True])
def test_arithmetic_flags_of_a_stream_are_those_of_the_recipe(load: Callable[..., StepAudio], tf32: bool) -> None:
    """The flags belong to the process and cuDNN's TF32 is on by default: a stream's calls set them anew, too."""
    import torch

    backend = load(tf32=tf32)
    flags = torch.backends.cudnn
    before = (flags.allow_tf32, flags.benchmark, flags.deterministic, torch.backends.cuda.matmul.allow_tf32)
    try:
        flags.allow_tf32, flags.benchmark, flags.deterministic = not tf32, True, False
        backend.stream(clip(9), "live", is_final=True)
        assert (flags.allow_tf32, flags.benchmark, flags.deterministic) == (tf32, False, True)
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
    finally:
        flags.allow_tf32, flags.benchmark, flags.deterministic, torch.backends.cuda.matmul.allow_tf32 = before
