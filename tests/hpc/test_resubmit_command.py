"""hpc/resubmit_command.py: the command that is shown launches what was launched before, whatever was asked for then."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest
from support.runs import call, write_list
from support.slurm_commands import SlurmCommands
from support.small_run import small_tar, spec_of
from support.tiny_taste import TASTE, build_taste

from hpc import submit as module
from hpc.resubmit_command import resubmit_command
from hpc.run import Run
from hpc.site_file import site_defaults
from hpc.submit import submit
from jobs.spec import read_spec


@pytest.fixture
def submitting(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that find a Slurm and stop where they would submit; returns a list of tars."""
    slurm = SlurmCommands(here / "bin")
    slurm.answer("scontrol", out="MaxArraySize = 1001\n")
    monkeypatch.setenv("PATH", slurm.environment["PATH"])
    monkeypatch.setattr(module, "_submit_to_slurm", lambda _: 0)
    monkeypatch.setattr(module, "watch", lambda *_: 0)
    return write_list(here / "l.txt", [small_tar(here / "1.tar")])


SETTINGS = {
    "shared nodes": "--cluster slurm --partition gpu --account me --time 1-00:00:00 --mem-per-gpu 40G --cpus-per-gpu 6",
    "whole nodes": "--cluster slurm --gpus-per-node a100:4 --procs-per-gpu 2 --tars-per-gpu auto --max-running 12",
    "other words for GPUs": "--cluster slurm --gpus-per-node a100:4 --gpu-request gres --mem-per-gpu 10G",
    "no GPU": "--cluster slurm --device cpu --constraint 'amd|intel'",
    "setup": "--cluster slurm --setup 'module load a b' --slurm exclusive --slurm reservation=big --allow-missing-end",
    "odd tars": "--cluster local --allow-joined --sniff",
    "commands": "--cluster local --allow-pipe",
    "this machine": "--cluster local --workers 3 --decode-threads 2 --clip-timeout 0",
    "feeding": "--cluster slurm --decode-threads auto --buffer-memory 1.5G --memory-guard 0.0 --clip-timeout 90",
    "metrics": "--cluster slurm --metrics-dir textfile",
    "damage": "--cluster local --max-damage 0.05",
    "no damage": "--cluster local --max-damage 0",
    "texts": "--cluster local --text-key transcript --text-key sentence --text-encoding euc-kr",
    "clips": "--cluster local --channel right --segments",
    "channels": "--cluster local --channel split",
    "recipe": "--cluster local --max-duration 12.5 --extensions wav,flac --max-tokens-per-fragment 4000 --subset-ratio 0.5",
}


@pytest.mark.slow
@pytest.mark.parametrize("with_site", [False, True], ids=["plain", "site"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_round_trip(submitting: Path, settings: str, with_site: bool) -> None:
    """The words give the same launch and the same recipe, with a cluster.yaml about as without."""
    if with_site:
        Path("cluster.yaml").write_text(
            "cluster: slurm\npartition: small\ntime: '30:00'\nsetup: [module load base]\nslurm: {nice: 5}\n"
            "decode_threads: 3\nbuffer_memory: 2G\n"
        )
    assert call(submit, "--list", submitting, "--backend", "mulaw", *shlex.split(settings)) == 0
    run = Run(Path("tokens").absolute())
    before, spec = run.read_state().launch, read_spec(run.output_dir)
    assert spec is not None
    words = shlex.split(resubmit_command(spec, before, site_defaults(), submitting, run.output_dir))
    assert words[:3] == ["python", "-m", "hpc.submit"]
    assert call(submit, *words[3:]) == 0
    assert run.read_state().launch == before
    assert read_spec(run.output_dir) == spec


@pytest.mark.slow
def test_backends_of_whole_clips(submitting: Path, tmp_path: Path) -> None:
    """They take no word about fragments; a combination has its preset's name, and its parts' options."""
    models = build_taste(tmp_path / "models")
    asked = ("--backend", TASTE, "--model-path", models, "--set", "whisper_features.layer=1", "--cluster", "local")
    path = "cosyvoice_s3.model_path=FunAudioLLM/CosyVoice-300M"
    assert call(submit, "--list", submitting, *asked, "--set", path) == 0
    run = Run(Path("tokens").absolute())
    spec = read_spec(run.output_dir)
    assert spec is not None
    words = shlex.split(resubmit_command(spec, run.read_state().launch, site_defaults(), submitting, run.output_dir))
    assert words[words.index("--backend") + 1] == "taste"
    assert path not in words
    assert call(submit, *words[3:]) == 0
    assert read_spec(run.output_dir) == spec


def test_defaults_are_not_repeated(submitting: Path) -> None:
    """What a site or a preset says anyway is left out, so that the command is short enough to be read."""
    Path("cluster.yaml").write_text("cluster: slurm\npartition: small\nsetup: [module load base]\n")
    assert call(submit, "--list", submitting, "--backend", "mulaw") == 0
    run = Run(Path("tokens").absolute())
    spec = read_spec(run.output_dir)
    assert spec is not None
    words = resubmit_command(
        spec, run.read_state().launch, site_defaults(), Path("l.txt"), Path("tokens"), ["--retry-errors"]
    )
    assert "partition" not in words
    assert "module" not in words
    assert words.startswith("python -m hpc.submit --list l.txt --backend mulaw --output-dir tokens ")
    assert words.endswith(" --retry-errors")


@pytest.mark.parametrize(("device", "words"), [("mps", ["--device", "mps"]), ("cpu", ["--device", "cpu"]), ("cuda", [])])
def test_tokens_without_a_launch(submitting: Path, device: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of jobs.tokenize_tar or tools.adopt: the recipe may depend on the device, so one that hpc.submit would not choose here
    is in the command.
    """
    monkeypatch.setattr("hpc.resubmit_command.uses_gpu", lambda _: True)
    spec = msgspec.structs.replace(spec_of("mulaw", device="cpu"), device=device)
    command = shlex.split(resubmit_command(spec, None, site_defaults(), submitting, Path("tokens")))
    assert [word for word in command if word == "--device" or word in ("mps", "cpu", "cuda")] == words
