"""The checks of a site, one after another, each in a child process that has so many seconds and no more."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.cluster import check_path
from hpc.launch import Launch
from jobs.commands import writing_to
from tools.doctoring import folder_probe, host_probe
from tools.doctoring.bounded import Answer, Ended, answers, probe_command, run_bounded
from tools.doctoring.findings import Finding, fault, fine, warning
from tools.doctoring.judge import (
    OTHER_FOLDER,
    judge_exclusive,
    judge_fsync,
    judge_gpus,
    judge_host,
    judge_link,
    judge_quotas,
    judge_rename,
    judge_room,
    judge_signs,
    judge_tars,
    judge_weights,
)
from tools.doctoring.judge_slurm import (
    judge_command,
    judge_missing,
    judge_news,
    judge_sbatch,
    judge_silence,
    judge_skew,
)
from tools.doctoring.quota import ask_quotas
from tools.doctoring.slurm_questions import ask_commands, ask_nodes, try_sbatch

__all__ = ["Asked", "examine"]

Facts = TypeVar("Facts", bound=msgspec.Struct)

FOLDER_SECONDS = 60.0
HOST_SECONDS = 90.0
TORCH_SECONDS = 120.0
WEIGHTS_SECONDS = 300.0
TARS_SECONDS = 120.0
REMOVE_SECONDS = 30.0


@dataclass(frozen=True)
class Asked:
    """What a person wants to know."""

    output_dir: Path
    """Absolute."""
    launch: Launch
    tar_list: Path | None = None
    tars: tuple[str, ...] = ()
    backend: str | None = None
    model_path: str | None = None
    settings: tuple[str, ...] = ()
    slurm: bool = False
    """The run is to use it."""
    gpus: bool = False
    """The run is to use them."""
    nodes: int = 0
    wait_s: float = 30.0
    again: tuple[str, ...] = ()
    """The command that asks again, with more patience."""


def examine(asked: Asked) -> Iterator[Finding]:
    """A finding after the other, as soon as it is known. Leaves nothing behind in the output directory."""
    with temporary_folder(asked.output_dir) as (folder, leftovers):
        yield from _folder(asked, folder)
        if asked.backend is not None:
            yield from _weights(asked)
        if asked.tar_list is not None:
            yield from _one("tars", _probe("tars", "--list", asked.tar_list), TARS_SECONDS, host_probe.Tars, judge_tars)
        answered, ended = answers(_probe("host", "driver"), HOST_SECONDS)
        yield from _host(answered, ended)
        torch = _torch(asked)
        yield from _gpus(answered, torch, wanted=asked.gpus and not asked.slurm)
        yield from _slurm(asked, folder)
    yield from leftovers


@contextmanager
def temporary_folder(output_dir: Path) -> Iterator[tuple[Path, list[Finding]]]:
    """A new folder in an output directory, which is made if need be, and a list that is filled if not all can be removed.

    What hangs is left alone after a while.
    """
    made = [path for path in (output_dir, *output_dir.parents) if not path.exists()]
    with writing_to(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output_dir, prefix=".tar2tokens-doctor-"))
    leftovers: list[Finding] = []
    try:
        yield folder, leftovers
    finally:
        ended = run_bounded(["rm", "-rf", "--", str(folder)], REMOVE_SECONDS)
        if ended.code != 0:
            leftovers.append(warning("tidying up", f"{folder} is still there: {ended.words}", f"rm -rf {folder}"))
        else:
            run_bounded(["rmdir", "--", *map(str, made)], REMOVE_SECONDS)


def _probe(*words: object) -> list[str]:
    return probe_command("host_probe", *words)


def _decoded(answer: Answer, kind: type[Facts]) -> Facts:
    return msgspec.json.decode(answer.facts, type=kind)


def _unanswered(check: str, ended: Ended) -> Finding:
    """Of a probe that ended without an answer to a check."""
    if ended.late:
        found = f"no answer in {ended.seconds:.0f} s: it hangs"
        return fault(check, found, "try it by hand, on a quiet machine; a hanging file system hangs a run too")
    return fault(check, f"the check itself failed: {ended.words}", "report it, with this line")


def _one(
    check: str, argv: Sequence[str], seconds: float, kind: type[Facts], judge: Callable[[Facts], Finding]
) -> Iterator[Finding]:
    """A probe with one answer."""
    answered, ended = answers(argv, seconds)
    if not answered:
        yield _unanswered(check, ended)
    elif answered[0].error:
        yield fault(check, answered[0].error, "mend it, and ask again")
    else:
        yield judge(_decoded(answered[0], kind))


def _folder(asked: Asked, folder: Path) -> Iterator[Finding]:
    """What the output directory's file system does; the first check without an answer is the one that hangs."""
    try:
        check_path(asked.output_dir)
    except UsageError as error:
        yield fault("path", str(error), "choose another name")
    answered, ended = answers(probe_command("folder_probe", folder), FOLDER_SECONDS)
    told = {answer.check: answer for answer in answered}
    for check in folder_probe.CHECKS:
        if check not in told:
            yield _unanswered(check, ended)
            return
        if told[check].error:
            yield fault(check, f"refused: {told[check].error}", OTHER_FOLDER)
        else:
            yield from _judge_folder(check, told[check], asked)
    yield from judge_quotas(ask_quotas(folder))


def _judge_folder(check: str, answer: Answer, asked: Asked) -> list[Finding]:
    if check == "room":
        return judge_room(_decoded(answer, folder_probe.Room), len(asked.tars), shared=asked.slurm)
    judges: Mapping[str, Callable[[], Finding]] = {
        "exclusive create": lambda: judge_exclusive(_decoded(answer, folder_probe.Exclusive)),
        "hard link": lambda: judge_link(_decoded(answer, folder_probe.Exclusive)),
        "rename": lambda: judge_rename(_decoded(answer, folder_probe.Replacing)),
        "fsync": lambda: judge_fsync(_decoded(answer, folder_probe.Flush)),
        "signs of life": lambda: judge_signs(_decoded(answer, folder_probe.Signs)),
    }
    return [judges[check]()]


def _weights(asked: Asked) -> Iterator[Finding]:
    words = ["--backend", asked.backend, *(word for setting in asked.settings for word in ("--set", setting))]
    if asked.model_path is not None:
        words += ["--model-path", asked.model_path]
    yield from _one("weights", _probe("weights", *words), WEIGHTS_SECONDS, host_probe.Weights, judge_weights)


def _host(answered: Sequence[Answer], ended: Ended) -> Iterator[Finding]:
    told = {answer.check: answer for answer in answered}
    if "host" not in told:
        yield _unanswered("host", ended)
    elif told["host"].error:
        yield fault("host", told["host"].error, "mend it, and ask again")
    else:
        yield from judge_host(_decoded(told["host"], host_probe.Host))


def _torch(asked: Asked) -> host_probe.Torch | None:
    """What torch says, in its own time; None where nobody asks for it, or it does not come to an end."""
    if not asked.gpus:
        return None
    answered, ended = answers(_probe("torch"), TORCH_SECONDS)
    if answered and not answered[0].error:
        return _decoded(answered[0], host_probe.Torch)
    return host_probe.Torch(True, error=answered[0].error if answered else ended.words)


def _gpus(answered: Sequence[Answer], torch: host_probe.Torch | None, *, wanted: bool, node: str = "") -> list[Finding]:
    """Of one host."""
    told = {answer.check: answer for answer in answered if answer.node == node}
    driver = told.get("driver")
    if driver is None or driver.error:
        return [warning("GPUs", "nobody could tell", "nvidia-smi by hand may")]
    return judge_gpus(_decoded(driver, host_probe.Driver), torch, wanted=wanted, node=node)


def _slurm(asked: Asked, folder: Path) -> Iterator[Finding]:
    """Slurm's commands, what sbatch would say, and a few nodes."""
    if not asked.slurm:
        yield fine("Slurm", "not asked: a run would be for this machine (--cluster slurm asks)")
        return
    found = [judge_command(name, ended) for name, ended in ask_commands(asked.launch)]
    yield from found
    if any(finding.verdict == "fault" for finding in found):
        yield warning("nodes", "not asked, since Slurm does not answer", "once it does, ask again")
        return
    yield judge_sbatch(try_sbatch(asked.launch))
    if asked.nodes:
        yield from _nodes(asked, folder)


def _nodes(asked: Asked, folder: Path) -> Iterator[Finding]:
    place = folder / "news"
    place.mkdir()
    see = [*asked.tars[:1], *([asked.model_path] if asked.model_path and os.path.isabs(asked.model_path) else [])]  # noqa: PTH117
    checks = ["host", "driver", *(["torch"] if asked.gpus and asked.backend else []), *(["see"] if see else [])]
    said = ask_nodes(place, asked.launch, nodes=asked.nodes, wait_s=asked.wait_s, checks=checks, see=see)
    heard = sorted({answer.node for answer in said.answers} | set(said.news))
    yield judge_silence(asked.nodes, heard, said.srun, asked.wait_s, asked.again)
    for node in heard:
        yield judge_news(node, said.news.get(node))
        theirs = [answer for answer in said.answers if answer.node == node]
        told = {answer.check: answer for answer in theirs if not answer.error}
        if "host" in told:
            yield from judge_host(_decoded(told["host"], host_probe.Host), node)
        torch = _decoded(told["torch"], host_probe.Torch) if "torch" in told else None
        yield from _gpus(theirs, torch, wanted=asked.gpus, node=node)
        if "see" in told:
            yield judge_missing(node, _decoded(told["see"], host_probe.Seen).missing)
    skew = judge_skew(said.news)
    if skew is not None:
        yield skew
