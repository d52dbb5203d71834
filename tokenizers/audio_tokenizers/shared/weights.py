"""Loads weights files into networks, and decides what a file must and may contain.

Some files are published, others were saved by a trainer: a state dict beside an optimizer, names with a prefix, heads for
another task. What counts is the network in use. Each of its tensors must be present exactly once and with its shape. A
tensor below one of its modules that has no place in it means a different network, which is an error too. Anything else
cannot change a token: one line in the log names it.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audio_tokenizers.errors import ModelFilesError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Naming", "Weights", "counted"]

log = logging.getLogger("tar2tokens")

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which trainers keep the state dict, if there is more in the file; those that FunASR's loader opens."""
PREFIXES = (*(f"{key}." for key in WRAPPERS), "module.")
"""What may precede any name: such a key, and DistributedDataParallel's."""
WEIGHT_NORMS = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""(norm, direction) as torch.nn.utils.parametrizations.weight_norm spells them, and as torch.nn.utils.weight_norm does."""
MOST_NAMES = 5
MOST_BESIDE = 8


def _same(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True)
class Naming:
    """Which of a file's tensors a network uses, and what it calls them."""

    parts: Collection[str]
    """What comes before the first dot in the file's names of the modules that are used."""
    prefixes: tuple[str, ...] = ()
    """What precedes those in some files, beside PREFIXES."""
    unneeded: str = "$"
    """Regular expression of how names begin that are known, and not needed: neither an error nor a line in the log."""
    ours: Callable[[str], str | None] = _same
    """A name in the file -> that in the network, None if the network has no such module."""
    theirs: Callable[[str], str] = _same
    """And back."""
    norm_axes: Mapping[str, int] = field(default_factory=dict)
    """The network's name of a module with a weight norm -> the axis that is kept, where that is not 0."""

    def place(self, name: str) -> tuple[Literal["used", "unknown", "unneeded", "beside"], str]:
        """What a tensor is, and: its name in the network if used; what to call it, and all of its kind, if beside."""
        rest = name
        while not re.match(self.unneeded, rest):
            part, dot, _ = rest.partition(".")
            if part in self.parts:
                ours = self.ours(rest)
                return ("unknown", name) if ours is None else ("used", _respelled(ours))
            prefix = next((prefix for prefix in (*self.prefixes, *PREFIXES) if rest.startswith(prefix)), None)
            if prefix is None:
                return "beside", name.removesuffix(rest) + (part if dot else rest)
            rest = rest.removeprefix(prefix)
        return "unneeded", name


def _respelled(name: str) -> str:
    """With the older spelling of a weight norm."""
    for new, old in WEIGHT_NORMS.items():
        if name.endswith(f".{new}"):
            return name.removesuffix(new) + old
    return name


class Weights:
    """What of one file, or of all shards of one, a network uses."""

    def __init__(self, paths: Sequence[Path], naming: Naming, fits: str) -> None:
        """Nothing is read yet. `fits` is what messages say the file should fit, such as its config."""
        self.file = paths[0] if len(paths) == 1 else paths[0].parent
        self.tensors: dict[str, torch.Tensor] = {}
        """By the network's names."""
        self.names: list[str] = []
        """Of all that the file holds, as it holds it."""
        self._paths = paths
        self._naming = naming
        self._fits = fits
        self._origins: dict[str, tuple[Path, str]] = {}
        self._unknown: list[str] = []
        self._beside: dict[str, None] = {}

    def read(self, device: str = "cpu") -> Weights:
        """The tensors that are used, copied to `device`, floats as float32, weight norms merged; the rest is never paged in.

        Raises ModelFilesError if a file cannot be read as weights, two of its tensors have one name in the network, or the
        parts of a weight norm do not fit together.
        """
        for path in self._paths:
            for name, tensor in _stored(path, lambda name: self._naming.place(name)[0] == "used"):
                ours = self._note(path, name, used=tensor is not None)
                if ours is not None and tensor is not None:
                    self.tensors[ours] = _copied(tensor, device)
        self._merge_weight_norms()
        return self

    def read_names(self) -> Weights:
        """As `read` of safetensors, except for the tensors: for a library that loads them itself."""
        for path in self._paths:
            for name, _ in _stored(path, lambda _: False):
                self._note(path, name, used=True)
        return self

    def take(self, tensors: Mapping[str, torch.Tensor]) -> Weights:
        """As `read`, of a file that a library has read."""
        for name, tensor in tensors.items():
            ours = self._note(self._paths[0], name, used=True)
            if ours is not None:
                self.tensors[ours] = _copied(tensor, "cpu")
        return self

    def _note(self, path: Path, name: str, *, used: bool) -> str | None:
        """The network's name of a tensor if it is used, after a look whether it is the only one of that name."""
        self.names.append(name)
        kind, word = self._naming.place(name)
        if kind == "unknown":
            self._unknown.append(name)
        elif kind == "beside" or (kind == "used" and not used):
            self._beside.setdefault(word)
        if kind != "used" or not used:
            return None
        if word in self._origins:
            raise self._ambiguity(word, self._origins[word], (path, name))
        self._origins[word] = path, name
        return word

    def _ambiguity(self, name: str, *found: tuple[Path, str]) -> ModelFilesError:
        several = len({path for path, _ in found}) > 1
        words = " and ".join(f"{theirs} in {path.name}" if several else theirs for path, theirs in found)
        return ModelFilesError(
            f"{self.file}: expected one tensor for {name}, found {words}: delete the one that is not meant"
        )

    def _merge_weight_norms(self) -> None:
        """Replace each norm and its direction by the weight that they make. What is no pair stays, and fits no network."""
        import torch

        for module in [name.removesuffix(".weight_g") for name in self.tensors if name.endswith(".weight_g")]:
            norm, direction, weight = (f"{module}.{leaf}" for leaf in ("weight_g", "weight_v", "weight"))
            if direction not in self.tensors:
                continue
            if weight in self.tensors:
                raise self._ambiguity(weight, self._origins[norm], self._origins[weight])
            axis, found = self._naming.norm_axes.get(module, 0), list(self.tensors[norm].shape)
            shape = [size if i == axis else 1 for i, size in enumerate(self.tensors[direction].shape)]
            if found != shape:
                raise self.misfit(f"{self._called(norm)} {found} instead of {shape}")
            # The function behind both spellings of torch's weight norm: merging once must not round otherwise than what
            # does it in each forward pass. There is no public name for it.
            self.tensors[weight] = torch._weight_norm(self.tensors.pop(direction), self.tensors.pop(norm), axis)  # noqa: SLF001

    def fill(self, module: torch.nn.Module) -> None:
        """Give `module` all of its tensors, and make it ready for inference; it may have been made on the meta device.

        Raises ModelFilesError on whatever does not fit, and logs what else was in the file.
        """
        expected = module.state_dict()
        misshapen = {
            self._called(name): difference
            for name, tensor in expected.items()
            if name in self.tensors and (difference := _difference(self.tensors[name], tensor))
        }
        self.judge(
            missing=[self._called(name) for name in expected if name not in self.tensors],
            unknown=[self._called(name) for name in self.tensors if name not in expected],
            misshapen=misshapen,
        )
        module.load_state_dict(self.tensors, strict=True, assign=True)
        stray = {
            name for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()) if tensor.is_meta
        }
        if stray:
            # What is in no file would have no value at all.
            raise UsageError(
                f"{type(module).__name__} of the installed version computes {', '.join(sorted(stray))}, which this backend "
                "does not know: install the version in requirements/constraints.txt"
            )
        module.eval().requires_grad_(requires_grad=False)
        self.tell()

    def judge(self, missing: Collection[str], unknown: Collection[str], misshapen: Mapping[str, str]) -> None:
        """Raise ModelFilesError if there is such a name, or was one in the file; `misshapen` has both shapes with each."""
        shapes = [f"{name} {difference}" for name, difference in misshapen.items()]
        problems = {"missing": missing, "unknown": [*unknown, *self._unknown], "of another shape": shapes}
        if any(problems.values()):
            words = "; ".join(counted(kind, names) for kind, names in problems.items() if names)
            beside = f"; beside them the file has {self._beside_words()}" if missing and self._beside else ""
            raise self.misfit(words + beside)

    def misfit(self, problem: str) -> ModelFilesError:
        """The error for a file that does not fit the network."""
        return ModelFilesError(f"{self.file}: does not fit {self._fits}: {problem}")

    def place(self, name: str) -> str:
        """Whether a tensor of this name is `used`, `unknown`, `unneeded` or `beside`."""
        return self._naming.place(name)[0]

    def tell(self) -> None:
        """Log which of the file's tensors are not used."""
        if self._beside:
            log.info("%s: not used: %s", self.file, self._beside_words())

    def _beside_words(self) -> str:
        return _listed(list(self._beside), MOST_BESIDE)

    def _called(self, name: str) -> str:
        """The file's name of one of the network's tensors."""
        return self._origins[name][1] if name in self._origins else self._naming.theirs(name)


def counted(kind: str, names: Collection[str]) -> str:
    """How many there are, and the first few of them."""
    return f"{len(names)} {kind}: {_listed(names, MOST_NAMES)}"


def _listed(names: Collection[str], most: int) -> str:
    return ", ".join(sorted(names)[:most]) + (", ..." if len(names) > most else "")


def _copied(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """A tensor of its own: a file that stayed mapped would reach the network if it changed."""
    import torch

    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> str | None:
    if found.shape != expected.shape:
        return f"{list(found.shape)} instead of {list(expected.shape)}"
    if expected.is_floating_point() and not found.is_floating_point():
        return f"{found.dtype} instead of floats"  # quantized: its scale is elsewhere
    return None


class _StandIn:
    """Takes the place of objects that are no tensors, containers or plain values: to make those could run code."""

    def __new__(cls, *_args: object, **_values: object) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def _stored(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, torch.Tensor | None]]:
    """(name, tensor) of all in a safetensors or torch.save file, None for what is no tensor or not wanted."""
    import safetensors
    import torch

    unreadable = (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError, safetensors.SafetensorError)
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt", device="cpu") as file:
                for name in list(file.keys()):
                    yield name, file.get_tensor(name) if wanted(name) else None
            return
        state = _unpickled(path)
    except unreadable as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0] or type(error).__name__
        advice = "download it again"
        if isinstance(error, pickle.UnpicklingError):
            advice += ", or, if a trainer wrote it, save its state dict alone"
        raise ModelFilesError(f"{path}: cannot be read as weights: {advice} ({reason})") from None
    if not isinstance(state, Mapping):
        raise ModelFilesError(f"{path}: expected a state dict of tensors, found {type(state).__name__}")
    for name, value in _flattened(state):
        yield name, value if isinstance(value, torch.Tensor) else None


def _unpickled(path: Path) -> object:
    """What torch.save has written. A zip is mapped, so that of a tensor no byte is read before its values are."""
    import torch

    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"  # older versions wrote none
    strangers = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
    with torch.serialization.safe_globals([(_StandIn, name) for name in strangers]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _flattened(state: Mapping[object, object], lead: str = "") -> Iterator[tuple[str, object]]:
    for key, value in state.items():
        if isinstance(value, Mapping) and key in WRAPPERS:
            yield from _flattened(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value
