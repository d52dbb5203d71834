"""audio_tokenizers/base.py: what every backend promises, tried on a tiny random model of each."""

from __future__ import annotations

import functools
import importlib.metadata
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.backend_cases import (
    ALL,
    ON_A_GPU,
    WITH_LANES,
    WITH_NETWORK,
    Case,
    TinyModels,
    alike,
    begin,
    cases,
    clip,
    described_without_torch,
    equal,
    values,
    values_in_lanes,
)
from support.fake_mps import fake_mps
from support.tiny_taste import TASTE

from audio_tokenizers.base import Batching, LaneShape, Scalar, Waveform
from audio_tokenizers.errors import ClipError, InfrastructureError, UsageError
from audio_tokenizers.registry import BUILT_IN


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Scalar]]:
    """All options of a case, with the path of its model."""
    return TinyModels(lambda: tmp_path_factory.mktemp("models")).options


@pytest.fixture(scope="module")
def loaded(options: Callable[..., dict[str, Scalar]]) -> Callable[[Case], Any]:
    """The backend of a case on the CPU, the same one each time."""
    return functools.cache(lambda case: case.factory.load(options(case), "cpu"))


def test_every_backend_is_here() -> None:
    """A backend of ours that is added joins this contract, and one that is made of others keeps it too."""
    assert {name for case in ALL for name in case.backend.split("+")} == set(BUILT_IN)
    assert TASTE in {case.backend for case in ALL}


class TestDescribing:
    """What a login node does, where there may be neither torch nor a GPU."""

    @cases(ALL)
    def test_it_imports_no_torch(self, case: Case, options: Callable[..., dict[str, Scalar]]) -> None:
        """`--help` and planning must not pay for torch, nor need it to be importable; nor for anything else of its size."""
        assert described_without_torch(options)[case.name] == [case.backend]

    @cases(ALL)
    def test_what_is_loaded_has_the_same_description(
        self, case: Case, options: Callable[..., dict[str, Scalar]], loaded: Callable[[Case], Any]
    ) -> None:
        """What was planned with is what a worker gets, field by field; records have what the description says."""
        backend = loaded(case)
        assert backend.info == case.factory.describe(options(case), "cpu")
        assert backend.info.kind == ("frames" if hasattr(backend, "encode") else "clips")
        assert list(values(backend, clip(backend))[0]) == [said.name for said in backend.info.fields]

    @cases([case for case in ALL if case.backend != "mulaw"])
    def test_a_missing_package_says_what_to_install(
        self, case: Case, options: Callable[..., dict[str, Scalar]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The base installation has no torch; the message names the extra."""
        given = options(case)

        def absent(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        extra = case.backend.partition("+")[0].replace("_", "-")
        with pytest.raises(UsageError, match=rf"pip install -e '\.\[{extra}\]'"):
            case.factory.describe(given, "cpu")

    @pytest.mark.parametrize("device", ["tpu", "cuda:x", "mps:0"])
    @cases([case for case in ALL if case.backend != "mulaw"])
    def test_another_kind_of_device_is_refused(
        self, case: Case, device: str, options: Callable[..., dict[str, Scalar]]
    ) -> None:
        """A slip is one message, not a traceback from inside torch."""
        with pytest.raises(UsageError, match=f"device '{device}'"):
            case.factory.describe(options(case), device)

    @cases([case for case in ON_A_GPU if "precision" in case.factory.options])
    def test_a_macs_gpu_has_a_recipe_of_its_own(self, case: Case, options: Callable[..., dict[str, Scalar]]) -> None:
        """Its tokens are not mixed with others'; it computes in float32, and not through other packages."""
        recipe = case.factory.describe(options(case), "mps").recipe
        assert recipe["device"] == "mps"
        assert "macos" in recipe
        for changes in ({"precision": "tf32"}, {"precision": "bf16"}, {"tf32": True}, {"engine": "upstream"}):
            if changes.keys() <= case.factory.options.keys():
                with pytest.raises(UsageError, match=r"\(mps\) is used with fp32 only|expected fp32 or tf32|device 'mps': "):
                    case.factory.describe(options(case, **changes), "mps")

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            *(("model_path", wrong) for wrong in (3, "", None)),
            *(("precision", wrong) for wrong in ("fp16", None)),
            *(("lanes", wrong) for wrong in (-1, 1.5, True, "four")),
            *((name, wrong) for name in ("tf32", "volume_normalize", "trim", "energy_norm") for wrong in ("yes", 1, None)),
            *((name, wrong) for name in ("raw_codes", "shifted_ids") for wrong in ("yes", 1, None)),
        ],
    )
    def test_options_of_another_kind_are_refused_by_name(
        self, name: str, wrong: Scalar, options: Callable[..., dict[str, Scalar]]
    ) -> None:
        """By each backend that has such an option: a slip in a preset is found before a job is submitted."""
        having = [case for case in ALL if name in case.factory.options and case.factory.options[name][0] is not wrong]
        assert having
        for case in having:
            with pytest.raises(UsageError, match=f"{name}: expected"):
                case.factory.describe(options(case, **{name: wrong}), "cpu")

    def test_every_switch_is_among_them(self) -> None:
        """An option that is true or false by default and is added joins the test above."""
        switches = {
            name.rpartition(".")[2]
            for case in ALL
            for name, (default, _) in case.factory.options.items()
            if isinstance(default, bool)
        }
        assert switches == {"tf32", "volume_normalize", "trim", "energy_norm", "raw_codes", "shifted_ids"}

    @cases([case for case in ALL if "precision" in case.factory.options])
    def test_options_of_older_runs_mean_what_they_meant(self, case: Case, options: Callable[..., dict[str, Scalar]]) -> None:
        """A run that was frozen before there were precisions and lanes goes on in float32 with single clips."""
        device = "cuda" if case.gpu else "cpu"
        now = {name: value for name, value in options(case).items() if name not in ("precision", "lanes")}
        lanes: dict[str, Scalar] = {"lanes": 0} if "lanes" in case.factory.options else {}
        assert case.factory.describe(now, device) == case.factory.describe(options(case, precision="fp32", **lanes), device)


class TestLoading:
    """What a worker does before its first clip."""

    @cases(ALL)
    def test_a_local_directory_never_touches_the_network(
        self,
        case: Case,
        options: Callable[..., dict[str, Scalar]],
        loaded: Callable[[Case], Any],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """Nodes have no network: nothing but the checkpoint is looked for, whatever packages fetch by themselves. And a copy
        that is loaded anew gives the tokens of the first.
        """
        import huggingface_hub.constants

        backend = loaded(case)
        expected = values(backend, clip(backend))

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise AssertionError("a socket was opened")

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        for name in ("funasr", "modelscope"):
            monkeypatch.setitem(sys.modules, name, None)
        assert equal(values(case.factory.load(options(case), "cpu"), clip(backend)), expected)
        assert not (tmp_path / "empty").exists()

    @cases(ON_A_GPU)
    def test_a_device_that_is_not_there_is_named(
        self, case: Case, options: Callable[..., dict[str, Scalar]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the machine's fault; a job without its GPU says so before it reads the weights, and a wrong number says how
        many there are.
        """
        import torch

        from audio_tokenizers.shared.weights import Weights

        for method in ("read", "read_names", "take"):
            monkeypatch.setattr(Weights, method, lambda *_args: pytest.fail("weights were read"))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(InfrastructureError, match=r"'cuda'.*no CUDA device"):
            case.factory.load(options(case), "cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(InfrastructureError, match=r"'cuda:2'.*2 CUDA devices"):
            case.factory.load(options(case), "cuda:2")


class TestEncoding:
    """What a worker does with each clip."""

    @cases(ALL)
    def test_tokens_do_not_depend_on_what_was_encoded_before(self, case: Case, loaded: Callable[[Case], Any]) -> None:
        """A clip has the same tokens first and later, and is left as it was: the order of a tar is no matter."""
        backend = loaded(case)
        wave = clip(backend)
        kept = wave.copy()
        first = values(backend, wave)
        values(backend, np.zeros(len(wave) // 2, np.float32))
        assert equal(values(backend, wave), first)
        assert np.array_equal(wave, kept)

    @cases([case for case in ALL if case.backend not in ("mulaw", "higgs", "hf")])
    def test_clips_are_their_own_company(self, case: Case, loaded: Callable[[Case], Any]) -> None:
        """Of several whole clips in one call each has the values that it has alone, in any order."""
        backend = loaded(case)
        waves = [clip(backend, seconds) for seconds in (0.5, 0.3, 0.9)]
        alone = [values(backend, wave)[0] for wave in waves]
        assert equal(values(backend, *waves), alone)
        assert equal(values(backend, *reversed(waves)), alone[::-1])

    @cases([case for case in ALL if case.backend not in ("mulaw", "higgs", "hf")])
    def test_resampling_leaves_its_input(self, case: Case, loaded: Callable[[Case], Any]) -> None:
        """Neither the file's samples nor what is heard are changed in place."""
        backend = loaded(case)
        for rate in (backend.info.sample_rate, 44100):
            wave = clip(backend)
            kept = wave.copy()
            heard = backend.resample(wave, rate)
            assert abs(len(heard) - len(wave) * backend.info.sample_rate / rate) <= 1
            before = heard.copy()
            values(backend, heard)
            assert np.array_equal(wave, kept)
            assert np.array_equal(heard, before)

    @cases(WITH_NETWORK)
    def test_a_clip_that_is_too_short_is_named(self, case: Case, loaded: Callable[[Case], Any]) -> None:
        """It is the data's fault, in company too, and one sample more is enough."""
        backend = loaded(case)
        shortest = backend.info.min_samples
        wave = clip(backend, shortest / backend.info.sample_rate + 0.1)[:shortest]
        short: list[list[Waveform]] = [[wave[:-1]]]
        if backend.info.kind == "clips":
            short.append([wave, wave[:-1]])
        for batch in short:
            with pytest.raises(ClipError) as caught:
                values(backend, *batch)
            assert caught.value.kind == "too_short"
        assert all(array.size for array in values(backend, wave)[0].values())

    @pytest.mark.parametrize("kind", ["torch", "python"])
    @cases(WITH_NETWORK)
    def test_running_out_of_memory_is_the_machines_fault_and_survived(
        self, case: Case, kind: str, loaded: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It must never become a record of the clip, and the next clip in the same process must still work."""
        import torch

        def exhaust(*_args: object, **_settings: object) -> None:
            if kind == "python":
                raise MemoryError
            torch.empty(1 << 60)

        backend = loaded(case)
        expected = values(backend, clip(backend))
        assert case.network is not None
        with monkeypatch.context() as patch:
            patch.setattr(*case.network(backend), exhaust)
            with pytest.raises(InfrastructureError, match=r"out of memory on cpu: .*--max-tokens-per-fragment") as caught:
                values(backend, clip(backend))
        # A chained error would keep the activations in its frames alive.
        assert caught.value.__context__ is None
        assert equal(values(backend, clip(backend)), expected)

    @cases(WITH_NETWORK)
    def test_a_mistake_in_the_code_is_not_blamed_on_the_machine(
        self, case: Case, loaded: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An unforeseen error keeps its type and traceback."""

        def fail(*_args: object, **_settings: object) -> None:
            raise RuntimeError("shapes cannot be multiplied")

        backend = loaded(case)
        assert case.network is not None
        monkeypatch.setattr(*case.network(backend), fail)
        with pytest.raises(RuntimeError, match="shapes"):
            values(backend, clip(backend))

    @pytest.mark.parametrize("tf32", [False, True])
    @cases(WITH_NETWORK)
    def test_arithmetic_flags_are_those_of_the_recipe(
        self, case: Case, tf32: bool, options: Callable[..., dict[str, Scalar]]
    ) -> None:
        """The flags belong to the process and cuDNN's TF32 is on by default: each call sets them anew."""
        import torch

        switches: dict[str, Scalar] = {name: tf32 for name in case.factory.options if name.rpartition(".")[2] == "tf32"}
        backend = case.factory.load(options(case, **switches), "cpu")
        flags, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = (flags.allow_tf32, flags.benchmark, flags.deterministic, matmul.allow_tf32)
        try:
            flags.allow_tf32, flags.benchmark, flags.deterministic, matmul.allow_tf32 = not tf32, True, False, not tf32
            products: Any = torch.backends.mkldnn
            products.matmul.fp32_precision = "bf16"  # as set_float32_matmul_precision("medium") does
            values(backend, clip(backend, 0.2))
            assert (flags.allow_tf32, flags.benchmark, flags.deterministic) == (tf32, False, True)
            assert matmul.allow_tf32 is tf32
            assert products.matmul.fp32_precision == "ieee"
        finally:
            flags.allow_tf32, flags.benchmark, flags.deterministic, matmul.allow_tf32 = before

    @cases(WITH_NETWORK)
    def test_a_callers_autocast_changes_nothing(self, case: Case, loaded: Callable[[Case], Any]) -> None:
        """A training that makes tokens on the way gets those of a run."""
        import torch

        backend = loaded(case)
        wave = clip(backend, 0.5)
        expected = values(backend, wave)
        with torch.autocast("cpu"):
            assert equal(values(backend, wave), expected)

    @pytest.mark.slow
    @cases(ON_A_GPU)
    def test_a_macs_gpu_gets_no_float64(
        self, case: Case, options: Callable[..., dict[str, Scalar]], loaded: Callable[[Case], Any]
    ) -> None:
        """On MPS, which lacks it, all that a backend makes on the device is of another type, in lanes too, and the values
        come back to the host. Here the device is a fake that computes as the CPU does.
        """
        wave = clip(loaded(case))
        expected = values(loaded(case), wave)
        given = options(case)
        with fake_mps():
            backend: Any = case.factory.load(given, "mps")
            assert backend.info.recipe.get("device", "mps") == "mps"
            found = values(backend, wave)
        assert alike(found, expected)
        if case in WITH_LANES:
            with fake_mps():
                in_lanes = values_in_lanes(case.factory.load({**given, "lanes": 2}, "mps"), wave)
            assert alike(in_lanes, expected)

    @cases(WITH_LANES)
    def test_a_batch_that_does_not_fit_its_shape(self, case: Case, options: Callable[..., dict[str, Scalar]]) -> None:
        """Too many clips, none, or one that is too long for its lane is a bug of the caller and becomes no record; a clip
        that is too short is the data's fault here too.
        """
        backend = case.factory.load(options(case, lanes=2), "cpu")
        info = backend.info
        assert (info.batching, info.max_batch) == (Batching.LANES, 2)
        shape = LaneShape(2, -(-info.sample_rate // 2 // info.hop_length) * info.hop_length)
        wave = np.ones(shape.samples, np.float32)
        for waves in ([], [wave] * 3, [np.ones(shape.samples + 1, np.float32)]):
            with pytest.raises(InfrastructureError, match="a bug in the caller"):
                begin(backend, waves, shape)
        with pytest.raises(ClipError) as caught:
            begin(backend, [wave, wave[: info.min_samples - 1]], shape)
        assert caught.value.kind == "too_short"
