"""The checks of a site, one after another, each in a child process with a time limit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from audio_tokenizers.errors import UsageError
from hpc.batch_script import check_path
from hpc.launch import Launch
from hpc.run import Run
from hpc.trust import check_run
from jobs.trust import NotTrustedError, trust_of
from tools.common.findings import Finding, fault, fine, warning
from tools.doctoring import folder_probe, host_probe
from tools.doctoring.bounded import Answer, Ended, answers, probe_command, run_bounded
from tools.doctoring.judge import (
    OTHER_FOLDER,
    judge_exclusive,
    judge_fsync,
    judge_gpus,
    judge_host,
    judge_link,
    judge_mps,
    judge_quotas,
    judge_rename,
    judge_room,
    judge_signs,
    judge_tars,
    judge_weights,
)
from tools.doctoring.judge_slurm import (
    is_busy,
    judge_command,
    judge_missing,
    judge_news,
    judge_sbatch,
    judge_silence,
    judge_skew,
)
from tools.doctoring.quota import ask_quotas
from tools.doctoring.slurm_questions import NodesAsked, ask_commands, ask_nodes, try_sbatch

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
    """What the user wants checked."""

    output_dir: Path
    """Absolute."""
    launch: Launch
    tar_list: Path | None = None
    backend: str | None = None
    model_path: str | None = None
    settings: tuple[str, ...] = ()
    slurm: bool = False
    """Whether the run would use Slurm."""
    gpus: bool = False
    """Whether the run would use GPUs of NVIDIA."""
    mps: bool = False
    """Whether it would use a Mac's GPU."""
    nodes: int = 0
    wait_s: float = 30.0
    again: tuple[str, ...] = ()
    """The command that repeats the checks with more patience."""


@dataclass
class _Place:
    """The doctor's folder in the output directory."""

    folder: Path
    made: folder_probe.Made | None = None
    """Once it is there."""

    def remove(self) -> list[Finding]:
        """Remove what was made, or report what is left: a removal that hangs is given up after a while."""
        ended = run_bounded(["rm", "-rf", "--", str(self.folder)], REMOVE_SECONDS)
        if ended.code != 0:
            return [warning("tidying up", f"{self.folder} may be there still: {ended.words}", f"rm -rf {self.folder}")]
        if self.made is not None and self.made.parents:
            run_bounded(["rmdir", "--", *self.made.parents], REMOVE_SECONDS)
        return []


def examine(asked: Asked) -> Generator[Finding, None, None]:
    """Findings, each as soon as it is known. Leaves nothing behind in the output directory.

    Raises UsageError if something that the user named does not exist.
    """
    tars = None
    if asked.tar_list is not None:
        tars = yield from _one("tars", _probe("tars", "--list", asked.tar_list), TARS_SECONDS, host_probe.Tars, judge_tars)
    weights = None
    if asked.backend is not None:
        weights = yield from _weights(asked)
    torch = asked.gpus and weights is not None and weights.needs_torch
    place = _Place(asked.output_dir / f".tar2tokens-doctor-{uuid.uuid4().hex[:12]}")
    try:
        yield from _folder(asked, place, tars.tars if tars is not None else 0)
        answered, ended = answers(_probe("host", "driver"), HOST_SECONDS)
        yield from _host(answered, ended)
        if asked.mps:
            yield judge_mps(_torch())
        else:
            yield from _gpus(answered, _torch() if torch else None, wanted=asked.gpus and not asked.slurm)
        yield from _slurm(asked, place, tars, torch=torch)
    finally:
        left = place.remove()
    yield from left


def _probe(*words: object) -> list[str]:
    return probe_command("host_probe", *words)


def _decoded(answer: Answer, kind: type[Facts]) -> Facts:
    return msgspec.json.decode(answer.facts, type=kind)


def _unanswered(check: str, ended: Ended) -> Finding:
    """The finding for a probe that ended without an answer to a check."""
    if ended.late:
        found = f"no answer in {ended.seconds:.0f} s: it hangs"
        return fault(check, found, "try it by hand, on a quiet machine; a hanging file system hangs a run too")
    return fault(check, f"the check itself failed: {ended.words}", "report it, with this line")


def _one(
    check: str, argv: Sequence[str], seconds: float, kind: type[Facts], judge: Callable[[Facts], Finding]
) -> Generator[Finding, None, Facts | None]:
    """Run a probe with one answer; returns its facts, if any."""
    answered, ended = answers(argv, seconds)
    if not answered:
        yield _unanswered(check, ended)
        return None
    if answered[0].usage:
        raise UsageError(answered[0].error)
    if answered[0].error:
        yield fault(check, answered[0].error, "fix it, and ask again")
        return None
    facts = _decoded(answered[0], kind)
    yield judge(facts)
    return facts


def _folder(asked: Asked, place: _Place, tars: int) -> Iterator[Finding]:
    """The output directory's file system. The first check without an answer is the one that hangs."""
    if asked.slurm:
        try:
            check_path(asked.output_dir)
        except UsageError as error:
            yield fault("path", str(error), "choose another name")
    answered, ended = answers(probe_command("folder_probe", place.folder), FOLDER_SECONDS)
    told = {answer.check: answer for answer in answered}
    first = told.get(folder_probe.FOLDER)
    if first is None or first.error:
        words = f"{asked.output_dir}: nothing can be made there: {first.error if first is not None else ended.words}"
        yield fault(folder_probe.FOLDER, words, "get write access, or choose another --output-dir")
        return
    place.made = _decoded(first, folder_probe.Made)
    for check in folder_probe.CHECKS:
        if check not in told:
            yield _unanswered(check, ended)
            return
        if told[check].error:
            yield fault(check, f"refused: {told[check].error}", OTHER_FOLDER)
        elif check == "room":
            shared = asked.slurm and not asked.nodes  # otherwise nodes report whether they see it
            yield from judge_room(_decoded(told[check], folder_probe.Room), tars, shared=shared)
        else:
            yield _judge_folder(check, told[check])
    yield from judge_quotas(ask_quotas(asked.output_dir))
    yield _trust(asked.output_dir)


def _trust(output_dir: Path) -> Finding:
    """Whether hpc.submit would start or continue a run in this folder."""
    try:
        check_run(Run(output_dir), trust_of())
    except NotTrustedError as error:
        return (warning if error.may_share else fault)("trust", f"not trusted: {error.found}", error.advice)
    except UsageError as error:
        return fault("trust", str(error), "")
    return fine("trust", "no other user can write files that a run obeys")


def _judge_folder(check: str, answer: Answer) -> Finding:
    judges: Mapping[str, Callable[[], Finding]] = {
        "exclusive create": lambda: judge_exclusive(_decoded(answer, folder_probe.Exclusive)),
        "hard link": lambda: judge_link(_decoded(answer, folder_probe.Exclusive)),
        "rename": lambda: judge_rename(_decoded(answer, folder_probe.Replacing)),
        "fsync": lambda: judge_fsync(_decoded(answer, folder_probe.Flush)),
        "signs of life": lambda: judge_signs(_decoded(answer, folder_probe.Signs)),
    }
    return judges[check]()


def _weights(asked: Asked) -> Generator[Finding, None, host_probe.Weights | None]:
    words = ["--backend", asked.backend, *(word for setting in asked.settings for word in ("--set", setting))]
    if asked.model_path is not None:
        words += ["--model-path", asked.model_path]
    return (yield from _one("weights", _probe("weights", *words), WEIGHTS_SECONDS, host_probe.Weights, judge_weights))


def _host(answered: Sequence[Answer], ended: Ended) -> Iterator[Finding]:
    told = {answer.check: answer for answer in answered}
    if "host" not in told:
        yield _unanswered("host", ended)
    elif told["host"].error:
        yield fault("host", told["host"].error, "fix it, and ask again")
    else:
        yield from judge_host(_decoded(told["host"], host_probe.Host))


def _torch() -> host_probe.Torch:
    """What torch answers, with a time limit of its own."""
    answered, ended = answers(_probe("torch"), TORCH_SECONDS)
    if answered and not answered[0].error:
        return _decoded(answered[0], host_probe.Torch)
    return host_probe.Torch(True, error=answered[0].error if answered else ended.words)


def _gpus(answered: Sequence[Answer], torch: host_probe.Torch | None, *, wanted: bool, node: str = "") -> list[Finding]:
    """Of one host."""
    told = {answer.check: answer for answer in answered if answer.node == node}
    driver = told.get("driver")
    if driver is None or driver.error:
        return [warning("GPUs", "no answer", "try nvidia-smi by hand")]
    return judge_gpus(_decoded(driver, host_probe.Driver), torch, wanted=wanted, node=node)


def _slurm(asked: Asked, place: _Place, tars: host_probe.Tars | None, *, torch: bool) -> Iterator[Finding]:
    """Slurm's commands, a test of sbatch, and a few nodes."""
    if not asked.slurm:
        yield fine("Slurm", "not asked: a run would be for this machine (--cluster slurm asks)")
        return
    found = [judge_command(name, ended) for name, ended in ask_commands(asked.launch)]
    yield from found
    if any(finding.verdict == "fault" for finding in found):
        yield warning("nodes", "not asked, since Slurm does not answer", "once it does, ask again")
        return
    job = judge_sbatch(try_sbatch(asked.launch))
    yield job
    if job.verdict == "fault":
        yield warning("nodes", "not asked, since Slurm would refuse the job", "once it takes it, ask again")
    elif asked.nodes and place.made is None:
        yield warning("nodes", "not asked, since there is no folder to leave notes in", "fix that, and ask again")
    elif asked.nodes:
        see = [*([tars.first] if tars is not None and not tars.bad_count else [])]
        see += [asked.model_path] if asked.model_path and Path(asked.model_path).is_absolute() else []
        checks = ["host", "driver", *["torch"] * torch, *["see"] * bool(see)]
        yield from _nodes(asked, place.folder, checks, see)


def _nodes(asked: Asked, folder: Path, checks: Sequence[str], see: Sequence[str]) -> Iterator[Finding]:
    """The requested number of nodes, or one if so many are not free at once."""
    for nodes in dict.fromkeys((asked.nodes, 1)):
        place = folder / f"news{nodes}"
        place.mkdir()
        said, heard = _ask(asked, place, nodes, checks, see)
        if heard or not is_busy(said.srun):
            break
    yield judge_silence(asked.nodes, heard, said.srun, asked.wait_s, asked.again)
    for node in heard:
        yield from _node(asked, said, node)
    skew = judge_skew(said.news)
    if skew is not None:
        yield skew


def _ask(asked: Asked, place: Path, nodes: int, checks: Sequence[str], see: Sequence[str]) -> tuple[NodesAsked, list[str]]:
    """What so many nodes say, and the names of those that said anything."""
    said = ask_nodes(place, asked.launch, nodes=nodes, wait_s=asked.wait_s, checks=checks, see=see)
    return said, sorted({answer.node for answer in said.answers} | set(said.news))


def _node(asked: Asked, said: NodesAsked, node: str) -> Iterator[Finding]:
    yield judge_news(node, said.news.get(node))
    theirs = [answer for answer in said.answers if answer.node == node]
    told = {answer.check: answer for answer in theirs if not answer.error}
    if "host" in told:
        yield from judge_host(_decoded(told["host"], host_probe.Host), node)
    torch = _decoded(told["torch"], host_probe.Torch) if "torch" in told else None
    yield from _gpus(theirs, torch, wanted=asked.gpus, node=node)
    if "see" in told:
        yield judge_missing(node, _decoded(told["see"], host_probe.Seen).missing)
