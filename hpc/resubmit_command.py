"""The command line that submits tars of a run again, as they were submitted the last time."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import yaml

from audio_tokenizers.base import Scalar
from audio_tokenizers.registry import complete_options, get_factory
from hpc.launch import Launch, Site, make_launch, overlay
from jobs.audio_formats import AUDIO_EXTENSIONS, FORMER_EXTENSIONS, normalise_extensions
from jobs.channels import channel_rule
from jobs.damage import DEFAULT_MAX_DAMAGE
from jobs.spec import Preset, TokenizeSpec, load_preset, preset_name, uses_gpu
from jobs.text_encoding import AUTO
from jobs.text_rules import TEXT_KEYS

__all__ = ["resubmit_command"]

SAME_NAMES = (
    *("gpu_request", "procs_per_gpu", "tars_per_gpu", "max_running", "partition", "account", "qos", "constraint"),
    *("cpus_per_gpu", "mem_per_gpu", "workers", "decode_threads", "buffer_memory", "memory_guard", "clip_timeout"),
    *("group", "umask"),
)
"""Settings of a launch that are options by the same name."""


def resubmit_command(
    spec: TokenizeSpec, launch: Launch | None, site: Site, tar_list: Path | None, output_dir: Path, flags: Sequence[str] = ()
) -> str:
    """`python -m hpc.submit ...` with what the recipe and the launch say, and neither presets nor `site` say anyway.

    Without `tar_list` it is about the tars that the run has.
    `site` is what cluster.yaml says where the command will be given.
    """
    words = [] if tar_list is None else ["--list", str(tar_list)]
    words += ["--backend", preset_name(spec), "--output-dir", str(output_dir)]
    options = spec.options if launch is None else {**spec.options, **launch.options}
    words += [*_recipe_words(spec, options), *([] if launch is None else _launch_words(launch, site, spec.backend)), *flags]
    return shlex.join(["python", "-m", "hpc.submit", *words])


def _recipe_words(spec: TokenizeSpec, options: Mapping[str, Scalar]) -> list[str]:
    preset = load_preset(preset_name(spec))
    usual = complete_options(get_factory(spec.backend), preset.options)
    words: list[str] = []
    for name, value in options.items():
        if value != usual.get(name):
            is_path = name == "model_path" and isinstance(value, str)
            words += ["--model-path", str(value)] if is_path else ["--set", f"{name}={_scalar(value)}"]
    for name in ("max_tokens_per_fragment", "num_tokens_overlap", "max_duration"):
        if getattr(spec, name) != getattr(preset, name):
            words += [_option(name), str(getattr(spec, name))]
    return [*words, *_audio_words(spec, preset), *_text_words(spec, preset)]


def _audio_words(spec: TokenizeSpec, preset: Preset) -> list[str]:
    words: list[str] = []
    if spec.max_damage != (DEFAULT_MAX_DAMAGE if preset.max_damage is None else preset.max_damage):
        words += ["--max-damage", str(spec.max_damage)]
    usual_extensions = (normalise_extensions(preset.extensions or AUDIO_EXTENSIONS), *FORMER_EXTENSIONS)
    if spec.extensions not in usual_extensions:
        words += ["--extensions", ",".join(spec.extensions)]
    if spec.sniff and not preset.sniff:
        words.append("--sniff")
    usual_channel = preset.channel and channel_rule(preset.channel)
    if spec.channel != usual_channel:
        words += ["--channel", spec.channel_rule]
    if spec.segments != bool(preset.segments):
        words += ["--segments" if spec.segments else "--no-segments"]
    return words


def _text_words(spec: TokenizeSpec, preset: Preset) -> list[str]:
    words: list[str] = []
    if spec.text_keys not in (None, preset.text_keys or TEXT_KEYS):
        words += ["--text-key", ",".join(spec.text_keys)]
    if spec.text_encoding not in (None, preset.text_encoding or AUTO):
        words += ["--text-encoding", spec.text_encoding]
    return words


def _launch_words(launch: Launch, site: Site, backend: str) -> list[str]:
    words: list[str] = []
    usual = _usual(site, backend)
    if usual.cluster != launch.cluster:
        words += ["--cluster", launch.cluster]
        site = msgspec.structs.replace(site, cluster=launch.cluster)
        usual = _usual(site, backend)
    if usual.device != launch.device:
        words += ["--device", launch.device]
        if launch.device == "cpu":
            usual = _usual(site, backend, "cpu")
    words += [*_size_words(launch, usual), *_sbatch_words(launch, site)]
    flags = {
        "--allow-missing-end": launch.allow_missing_end,
        "--allow-joined": launch.allow_joined,
        "--allow-pipe": launch.allow_pipe,
    }
    return [*words, *(flag for flag, given in flags.items() if given)]


def _size_words(launch: Launch, usual: Launch) -> list[str]:
    words: list[str] = []
    if (usual.gpus_per_node, usual.gpu_type) != (launch.gpus_per_node, launch.gpu_type):
        kind = f"{launch.gpu_type}:" if launch.gpu_type else ""
        words += ["--gpus-per-node", f"{kind}{launch.gpus_per_node}"]
    for name in SAME_NAMES:
        if getattr(launch, name) not in (None, getattr(usual, name)):
            words += [_option(name), str(getattr(launch, name))]
    if usual.time_limit_min != launch.time_limit_min:
        words += ["--time", str(launch.time_limit_min)]
    return words


def _sbatch_words(launch: Launch, site: Site) -> list[str]:
    words: list[str] = []
    known = len(site.setup) if launch.setup[: len(site.setup)] == site.setup else 0
    for line in launch.setup[known:]:  # what a site says and what a person says add up
        words += ["--setup", line]
    for name, value in launch.slurm.items():
        if site.slurm.get(name) != value:
            words += ["--slurm", name if value is True else f"{name}={value}"]
    return words


def _usual(site: Site, backend: str, device: str = "auto") -> Launch:
    """What comes of the site's defaults alone."""
    return make_launch(
        overlay(site, Site()),
        device=device,
        workers=None,
        allow_missing_end=False,
        environment=os.environ,
        uses_gpu=uses_gpu(backend),
    )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _scalar(value: Scalar) -> str:
    """As YAML, in one line: what --set reads."""
    return yaml.safe_dump(value, width=1 << 20).removesuffix("\n").removesuffix("...").strip()
