"""The spec of a run: everything that decides which bytes come out, its fingerprint, and the file that freezes it."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from audio_tokenizers.base import BackendInfo, Batching, Field, Options, Scalar
from audio_tokenizers.errors import UsageError
from audio_tokenizers.registry import backend_names, complete_options, get_factory
from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.extras import backend_packages
from audio_tokenizers.shared.yaml_loading import describe_yaml_error, load_yaml
from jobs.audio_formats import AUDIO_EXTENSIONS, FORMER_EXTENSIONS, RESAMPLER, normalise_extensions
from jobs.channels import channel_rule
from jobs.damage import DEFAULT_MAX_DAMAGE
from jobs.fileops import FileOps, write_if_absent
from jobs.lane_grid import RULE
from jobs.option_struct import with_defaults
from jobs.recipe_options import RecipeOptions
from jobs.subset import check_ratio
from jobs.text_encoding import AUTO, check_encoding
from jobs.text_rules import TEXT_KEYS, TextRules, check_text_keys

__all__ = [
    "Preset",
    "TokenizeSpec",
    "adopting",
    "check_spec",
    "freeze_spec",
    "load_preset",
    "make_spec",
    "preset_name",
    "read_spec",
    "spec_path",
    "uses_gpu",
]

DECODERS = ("soundfile", "av", "soxr")
DETECTOR = "charset-normalizer"
"""The package that detects encodings of texts."""
NOT_HASHED = ("device", "options", "fingerprint")
UNDECIDED = {
    "max_damage": 0.0,
    "sniff": False,
    "channel": None,
    "segments": False,
    "subset_ratio": 1.0,
    "text_keys": None,
    "text_encoding": None,
    "adopted": None,
}
"""The behaviour from before there was a choice. A spec with these values has the fingerprint of one without the keys."""
DEFAULTS = RecipeOptions()
PRESET_FOLDER = Path(__file__).parent
LONGEST_CLIP_SECONDS = 24 * 3600.0
"""The longest clip without --max-duration. A few hundred bytes can decode to years of silence, and no speech corpus has a
longer clip. It is not part of the recipe: runs from before there was a bound go on, with the same fingerprint.
"""


class TokenizeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a run tokenizes with. `fingerprint` is the hash of all fields but NOT_HASHED."""

    backend: str
    device: str
    """`cpu`, `cuda` or `mps`: the class of device, not its number. If it affects tokens, it is in the recipe too."""
    sample_rate: int
    hop_length: int
    fields: tuple[Field, ...]
    mono: str
    min_samples: int
    max_tokens_per_fragment: int | None
    """None: whole clips."""
    num_tokens_overlap: int
    max_duration: float | None
    """Seconds; None if not given."""
    extensions: tuple[str, ...]
    recipe: dict[str, Scalar]
    options: dict[str, Scalar]
    """How to load the backend. Whatever affects tokens is in `recipe`; a model may move to another folder."""
    max_damage: float = 0.0
    """Share of a clip that may be missing of what is kept (jobs/damage.py). Runs from before there was such a thing keep no
    damaged clip, nor has their fingerprint anything of it."""
    sniff: bool = False
    """Whether members with audio content are clips whatever their extension. Part of the fingerprint only if true."""
    segments: bool = False
    """Whether segments listed in sidecars are clips of their own: jobs/segments.py."""
    subset_ratio: float = 1.0
    """Share of the clips that have records: jobs/subset.py."""
    channel: str | None = None
    """Which channel is used, or `split`, if not `mono`: jobs/channels.py."""
    fingerprint: str = ""
    text_keys: tuple[str, ...] | None = None
    """Of what a clip's JSON says, which is the text: the first that is there. None: `text` alone."""
    text_encoding: str | None = None
    """Of texts: `auto`, or a codec's name. None: UTF-8 or GB18030. Both are None in a run from before there was a choice:
    its sidecars stand beside their audio, and its JSON is strict."""
    adopted: str | None = None
    """The kind of lines that tools.adopt may have taken over: some tokens of the run are not of this recipe. Part of the
    fingerprint, so that no other run mixes with them."""

    @property
    def text_rules(self) -> TextRules | None:
        """How sidecars are found and read; None for runs from before there was a choice."""
        if self.text_keys is None and self.text_encoding is None:
            return None
        return TextRules(self.text_keys or TEXT_KEYS, self.text_encoding or AUTO)

    @property
    def channel_rule(self) -> str:
        """Which channel is used."""
        return self.channel or self.mono

    @property
    def longest_seconds(self) -> float:
        """Longer clips are errors of kind `too_long`."""
        return LONGEST_CLIP_SECONDS if self.max_duration is None else self.max_duration


class Preset(RecipeOptions, frozen=True, forbid_unknown_fields=True):
    """Defaults of `--backend NAME`, from jobs/NAME.yaml. The command line wins."""

    backend: str
    options: dict[str, Scalar] = msgspec.field(default_factory=dict)


def load_preset(name: str, folder: Path = PRESET_FOLDER) -> Preset:
    """The preset `name`, never a path; a backend without a preset file has the backend's own defaults. That of `a+b` has
    the options of both presets and the shorter `max_duration`.

    Raises UsageError that says what exists, and the nearest, if there is neither.
    """
    path = folder / f"{name}.yaml"
    if "+" in name:
        return _combined_preset([load_preset(part, folder) for part in name.split("+")])
    if "/" in name or not path.exists():
        _check_name(name, folder)
        return Preset(get_factory(name).name)
    try:
        return msgspec.convert(load_yaml(path.read_text(encoding="utf-8")), Preset)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not a preset: {describe_yaml_error(error)}") from None
    except (UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: not a preset: {error}") from None


def _combined_preset(parts: Sequence[Preset]) -> Preset:
    return Preset(
        "+".join(part.backend for part in parts),
        options={f"{part.backend}.{key}": value for part in parts for key, value in part.options.items()},
        max_duration=min((part.max_duration for part in parts if part.max_duration is not None), default=None),
    )


def _check_name(name: str, folder: Path) -> None:
    known = sorted({*backend_names(), *(path.stem for path in folder.glob("*.yaml"))})
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no backend {name!r}: there are {', '.join(known)}{hint}")


def preset_name(spec: TokenizeSpec) -> str:
    """The name of the spec's backend for users: `mimi` rather than `hf`, if a codec or a combination has a preset."""
    codec = spec.recipe.get("codec")
    if isinstance(codec, str) and (PRESET_FOLDER / f"{codec}.yaml").exists() and load_preset(codec).backend == spec.backend:
        return codec
    if "+" in spec.backend:
        presets = (path.stem for path in sorted(PRESET_FOLDER.glob("*.yaml")))
        return next((name for name in presets if load_preset(name).backend == spec.backend), spec.backend)
    return spec.backend


def uses_gpu(name: str) -> bool:
    """Whether preset or backend `name` can use a GPU, which is so unless the backend says it cannot."""
    return bool(getattr(get_factory(load_preset(name).backend), "uses_gpu", True))


def make_spec(
    name: str,
    *,
    device: str,
    options: Options | None = None,
    asked: RecipeOptions = DEFAULTS,
    begun: TokenizeSpec | None = None,
) -> TokenizeSpec:
    """The spec for preset or backend `name`: what is `asked` for over the preset's over the backend's. Imports no torch.

    `begun` is the spec of the run that goes on, if there is one: where nobody asks for anything else, it keeps no damaged
    clip if it began so, has the default extensions that it began with, and reads texts as it did. A run with adopted lines
    keeps them.
    """
    preset = load_preset(name)
    if begun is not None and asked.max_damage is None and not begun.max_damage:
        asked = msgspec.structs.replace(asked, max_damage=begun.max_damage)
    if begun is not None and not asked.extensions and begun.extensions in FORMER_EXTENSIONS:
        asked = msgspec.structs.replace(asked, extensions=begun.extensions)
    factory = get_factory(preset.backend)
    complete = complete_options(factory, {**preset.options, **(options or {})}, name)
    for key, path in complete.items():  # workers, and who resumes the run, may stand in another folder
        if key.endswith("_path") and isinstance(path, str) and path and Path(path).exists():
            complete[key] = str(Path(path).absolute())
    with backend_packages(factory.name, name):
        info = factory.describe(complete, device)
    if info.kind == "clips" and (asked.max_tokens_per_fragment, asked.num_tokens_overlap) != (None, None):
        raise UsageError(
            f"{name} takes whole clips: --max-tokens-per-fragment and --num-tokens-overlap are not for it; "
            "--max-duration makes longer clips errors"
        )
    wanted = with_defaults(asked, preset)
    length = _first(wanted.max_tokens_per_fragment, info.max_tokens_per_fragment)
    overlap = _first(wanted.num_tokens_overlap, info.num_tokens_overlap) or 0
    if length is not None:
        _check_fragments(length, overlap, info, name)
    if wanted.max_duration is not None and not 0 < wanted.max_duration < math.inf:  # nan too
        raise UsageError(f"--max-duration {wanted.max_duration:g}: expected seconds above 0")
    max_damage = DEFAULT_MAX_DAMAGE if wanted.max_damage is None else wanted.max_damage
    if not 0 <= max_damage <= 1:
        raise UsageError(
            f"--max-damage {max_damage:g}: expected a share of the clip, from 0 (keep no damaged clip) to 1 (keep whatever "
            "decodes)"
        )
    keys = check_text_keys(wanted.text_keys) or TEXT_KEYS
    encoding = check_encoding(wanted.text_encoding or AUTO)
    as_before = begun is not None and begun.text_rules is None and not (wanted.text_keys or wanted.text_encoding)
    extensions = normalise_extensions(wanted.extensions or AUDIO_EXTENSIONS)
    if not extensions:
        raise UsageError(f"--extensions {' '.join(map(repr, wanted.extensions))}: expected extensions such as .mp3 .wav")
    rule = info.mono if wanted.channel is None else channel_rule(wanted.channel)
    spec = TokenizeSpec(
        backend=factory.name,
        device=device.partition(":")[0],
        sample_rate=info.sample_rate,
        hop_length=info.hop_length,
        # As it comes back from the file, where a whole number of type float has a point.
        fields=msgspec.convert(msgspec.to_builtins(info.fields), tuple[Field, ...]),
        mono=info.mono,
        min_samples=info.min_samples,
        max_tokens_per_fragment=length,
        num_tokens_overlap=overlap,
        max_duration=wanted.max_duration,
        max_damage=max_damage,
        extensions=extensions,
        recipe={
            **info.recipe,
            **({} if info.kind == "clips" else {"resampler": RESAMPLER}),  # whole clips have their backend's
            **({"lane_grid": RULE} if info.batching is Batching.LANES else {}),
            **{package: importlib.metadata.version(package) for package in DECODERS},
            **({DETECTOR: importlib.metadata.version(DETECTOR)} if encoding == AUTO and not as_before else {}),
        },
        options=complete,
        sniff=wanted.sniff,
        text_keys=None if as_before else keys,
        text_encoding=None if as_before else encoding,
        segments=bool(wanted.segments),
        subset_ratio=1.0 if wanted.subset_ratio is None else check_ratio(wanted.subset_ratio),
        channel=None if rule == info.mono else rule,
        adopted=None if begun is None else begun.adopted,
    )
    return msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))


def adopting(spec: TokenizeSpec, lines: str) -> TokenizeSpec:
    """The spec of a run like this one which may hold adopted lines of this kind."""
    spec = msgspec.structs.replace(spec, adopted=lines)
    return msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _check_fragments(length: int, overlap: int, info: BackendInfo, name: str) -> None:
    if overlap < 0 or length <= 2 * overlap or length * info.hop_length < info.min_samples:
        raise UsageError(
            f"--max-tokens-per-fragment {length} with --num-tokens-overlap {overlap}: expected more than twice the overlap, "
            f"and at least {-(-info.min_samples // info.hop_length)} for {name}"
        )


def _fingerprint(spec: TokenizeSpec) -> str:
    said = {k: v for k, v in msgspec.to_builtins(spec).items() if k not in NOT_HASHED}
    decisive = {k: v for k, v in said.items() if k not in UNDECIDED or v != UNDECIDED[k]}
    return hashlib.sha256(msgspec.json.encode(decisive, order="sorted")).hexdigest()[:16]


def spec_path(output_dir: Path) -> Path:
    """Where a run directory keeps its frozen spec."""
    return output_dir / ".run" / "spec.yaml"


def read_spec(output_dir: Path) -> TokenizeSpec | None:
    """The run's frozen spec; None if there is none yet."""
    path = spec_path(output_dir)
    try:
        spec = msgspec.convert(load_yaml(path.read_text(encoding="utf-8")), TokenizeSpec)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        reason = describe_yaml_error(error) if isinstance(error, yaml.YAMLError) else str(error)
        raise UsageError(f"{path}: not a spec of this version of tar2tokens: {reason}") from None
    if spec.fingerprint != _fingerprint(spec):
        raise UsageError(
            f"{path}: its fingerprint is {spec.fingerprint}, its values give {_fingerprint(spec)}: it has been edited, and "
            "its tokens would mix two recipes; restore it, or use another --output-dir"
        )
    return spec


def freeze_spec(output_dir: Path, spec: TokenizeSpec, ops: FileOps | None = None) -> None:
    """Make `spec` the run's, or check that it is. Raises UsageError that shows the difference if it is not."""
    if not spec_path(output_dir).exists():  # so that a finished run may lie on a read-only disk
        text = yaml.safe_dump(msgspec.to_builtins(spec), sort_keys=False, allow_unicode=True)
        write_if_absent(ops or FileOps(), spec_path(output_dir), text.encode())
    check_spec(output_dir, spec)  # another command may have been faster


def check_spec(output_dir: Path, spec: TokenizeSpec) -> None:
    """Raise UsageError that shows the difference if the run has another spec; a run without one may have any."""
    frozen = read_spec(output_dir)
    if frozen is None or frozen.fingerprint == spec.fingerprint:
        return
    differences = "\n".join(_differences(msgspec.to_builtins(frozen), msgspec.to_builtins(spec)))
    raise UsageError(
        f"{output_dir} holds tokens of another recipe; two recipes are two data sets, so use another --output-dir, or the "
        f"options that it was begun with ({called('hpc.resume')} goes on with them):\n{differences}"
    )


def _differences(frozen: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    diff = difflib.unified_diff(_flat(frozen), _flat(asked), "this directory", "this command", lineterm="", n=0)
    return [line for line in diff if not line.startswith("@@")]


def _flat(spec: dict[str, Any]) -> list[str]:
    found = {key: value for key, value in spec.items() if key not in (*NOT_HASHED, "recipe")}
    return [f"{key}: {value}" for key, value in {**found, **spec["recipe"]}.items()]
