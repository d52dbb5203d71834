"""The command line that submits tars of a run again, as they were submitted the last time."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from audio_tokenizers.base import Scalar
from audio_tokenizers.registry import complete_options, get_factory
from audio_tokenizers.shared.command_names import called
from hpc.launch import Launch, make_launch
from hpc.launch_options import LaunchOptions, Site, TaskOptions, overlay
from jobs.audio_formats import AUDIO_EXTENSIONS, FORMER_EXTENSIONS, normalise_extensions
from jobs.channels import channel_rule
from jobs.damage import DEFAULT_MAX_DAMAGE
from jobs.option_struct import option_words, with_defaults
from jobs.recipe_options import BackendOptions, RecipeOptions
from jobs.spec import TokenizeSpec, load_preset, preset_name, uses_gpu
from jobs.text_encoding import AUTO
from jobs.text_rules import TEXT_KEYS
from jobs.worker_options import SharingOptions, WishOptions

__all__ = ["resubmit_command"]

DEFAULTS = RecipeOptions(
    max_damage=DEFAULT_MAX_DAMAGE,
    extensions=AUDIO_EXTENSIONS,
    text_keys=TEXT_KEYS,
    text_encoding=AUTO,
    segments=False,
    subset_ratio=1.0,
)
"""Defaults where neither a preset nor the user sets anything; the backend decides the rest."""


def resubmit_command(
    spec: TokenizeSpec, launch: Launch | None, site: Site, tar_list: Path | None, output_dir: Path, flags: Sequence[str] = ()
) -> str:
    """The command `hpc.submit`, as the user calls it, with the options of the recipe and the launch that neither presets nor
    `site` give anyway.

    Without `tar_list` it submits the run's own tars. `site` is the cluster.yaml of the folder where the command will be run.
    """
    words = [] if tar_list is None else ["--list", str(tar_list)]
    words += ["--backend", preset_name(spec), "--output-dir", str(output_dir)]
    options = spec.options if launch is None else {**spec.options, **launch.options}
    launching = _device_words(spec, site) if launch is None else _launch_words(launch, site, spec.backend)
    words += [*_recipe_words(spec, options), *launching, *flags]
    return f"{called('hpc.submit')} {shlex.join(words)}"


def _recipe_words(spec: TokenizeSpec, options: Mapping[str, Scalar]) -> list[str]:
    preset = load_preset(preset_name(spec))
    usual_options = complete_options(get_factory(spec.backend), preset.options)
    settings = {name: value for name, value in options.items() if value != usual_options.get(name)}
    path = settings.get("model_path")
    if isinstance(path, str):
        del settings["model_path"]
    else:
        path = None
    given, usual = _said(spec, spec.channel_rule), _said(with_defaults(preset, DEFAULTS), preset.channel or spec.mono)
    if spec.extensions in FORMER_EXTENSIONS:  # a run that was begun with them keeps them
        usual = msgspec.structs.replace(usual, extensions=given.extensions)
    if spec.max_tokens_per_fragment is None:  # whole clips: their backend takes no overlap, not even 0
        given = msgspec.structs.replace(given, num_tokens_overlap=None)
    return option_words(
        BackendOptions(backend=spec.backend, model_path=path, settings=settings, **msgspec.structs.asdict(given)),
        BackendOptions(backend=spec.backend, **msgspec.structs.asdict(usual)),
    )


def _said(recipe: TokenizeSpec | RecipeOptions, channel: str) -> RecipeOptions:
    """A recipe as the options that ask for it; a list is one word, in normal form."""
    values = {name: getattr(recipe, name) for name in RecipeOptions.__struct_fields__}
    values["extensions"] = (",".join(normalise_extensions(recipe.extensions)),)
    values["text_keys"] = (",".join(recipe.text_keys),) if recipe.text_keys else ()
    return RecipeOptions(**{**values, "channel": channel_rule(channel)})


def _device_words(spec: TokenizeSpec, site: Site) -> list[str]:
    """The device of tokens that were never launched, where hpc.submit would choose another."""
    return [] if _usual(site, spec.backend).device == spec.device else ["--device", spec.device]


def _launch_words(launch: Launch, site: Site, backend: str) -> list[str]:
    given, wishes, sharing = _asked(launch, site)
    usual = _usual(site, backend)
    if usual.cluster != launch.cluster:
        site = msgspec.structs.replace(site, cluster=launch.cluster)
        usual = msgspec.structs.replace(_usual(site, backend), cluster=usual.cluster)
    if usual.device != launch.device == "cpu":
        usual = msgspec.structs.replace(_usual(site, backend, "cpu"), cluster=usual.cluster, device=usual.device)
    known, *_ = _asked(usual, site)
    return [*option_words(given, known), *option_words(wishes, WishOptions()), *option_words(sharing, SharingOptions())]


def _asked(launch: Launch, site: Site) -> tuple[LaunchOptions, WishOptions, SharingOptions]:
    """The options that give this launch on top of `site`: the inverse of `make_launch`."""
    kept = {name: getattr(launch, name) for name in TaskOptions.__struct_fields__}
    gpu_type = f"{launch.gpu_type}:" if launch.gpu_type else ""
    from_site = len(site.setup) if launch.setup[: len(site.setup)] == site.setup else 0
    changed = {"gpus_per_node": f"{gpu_type}{launch.gpus_per_node}", "setup": launch.setup[from_site:]}
    return (
        LaunchOptions(
            **{**kept, **changed},
            cluster=launch.cluster,
            device=launch.device,
            workers=launch.workers,
            time=launch.time_limit_min,
            metrics_dir=launch.metrics_dir or None,
        ),
        WishOptions(
            allow_missing_end=launch.allow_missing_end, allow_joined=launch.allow_joined, allow_pipe=launch.allow_pipe
        ),
        SharingOptions(group=launch.group or None, umask=launch.umask or None),
    )


def _usual(site: Site, backend: str, device: str = "auto") -> Launch:
    """The launch that the site's defaults alone give."""
    asked = overlay(site, LaunchOptions(device=device))
    return make_launch(asked, environment=os.environ, uses_gpu=uses_gpu(backend))
