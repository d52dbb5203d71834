"""Which parts of a run folder must be trusted before a command acts on it, and how a group shares one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.command_names import called
from hpc.launch import Launch
from hpc.rounds import launch_of
from hpc.run import STATE_FILE, Run
from hpc.stalls import stall_file
from jobs.trust import Trust, check_folder, share, trust_of

__all__ = ["DEFAULT_UMASK", "check_run", "launch_to_look_with", "of_code", "open_run", "share_run"]

DEFAULT_UMASK = 0o022


def check_run(run: Run, trust: Trust) -> None:
    """Raise UsageError if anyone outside `trust` may have written the files that the run's state is read from."""
    check_folder(run.output_dir, _state(run), trust)


def _state(run: Run) -> Iterator[Path]:
    yield run.folder
    names = ("spec.yaml", "tars.txt", "history.jsonl", "events.jsonl", "chain.log", "model_hashes.json")
    yield from (run.folder / name for name in (STATE_FILE, *names, "claims", "attempts", "manifests", "submissions"))
    with suppress(NotADirectoryError):  # writing there will report it
        for submission in run.submissions():
            yield submission.folder
            if not submission.digest_file.exists():
                yield from (submission.plan_file, submission.job_file, submission.logs)
                yield from (submission.report_file(0).parent, stall_file(submission, 0).parent)


def open_run(output_dir: Path, group: str | None) -> tuple[Run, Launch]:
    """The run that a command continues, and how it is launched. Sets this process's umask to the run's.

    `group` is the --group option. Raises UsageError if there is no run, or one that is not trusted.
    """
    trust = trust_of(group)
    run = Run(output_dir.absolute(), trust)
    check_run(run, trust)
    launch = launch_of(run)
    if launch.group != trust.group_name:
        raise UsageError(
            f"--group {group}: {run.output_dir} is not shared with it: {called('hpc.submit')} --group {group} shares it"
            if group is not None
            else f"{run.output_dir} is shared with group {launch.group}: give --group {launch.group}, or run "
            f"{called('hpc.submit')} again"
        )
    os.umask(int(launch.umask, 8) if launch.umask else trust.umask)
    return run, launch


def of_code(trust: Trust) -> Trust:
    """The trust for files beside the code, such as the cluster.yaml of a shared checkout: the owner of the code decides
    what runs here anyway.
    """
    return replace(trust, code_owner=code_owner())


def code_owner() -> int:
    """The owner of this code."""
    return Path(__file__).stat().st_uid


def share_run(run: Run, trust: Trust) -> None:
    """If there is a group, create the run's folder and give the group the run's files, and nothing else in the folder.

    Raises UsageError if new files do not inherit their folder's group on this file system.
    """
    if trust.group is None:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    status = run.folder.stat()
    if status.st_gid != trust.group or not status.st_mode & stat.S_ISGID:  # else the group owns all of it already
        _share_what_is_there(run, trust)
    probe = run.folder / f".group.{os.getpid()}"
    probe.touch()
    try:
        if probe.stat().st_gid != trust.group:
            raise UsageError(
                f"--group {trust.group_name}: files in {run.folder} do not get the folder's group on this file system: "
                f"choose another --output-dir, or begin under `newgrp {trust.group_name}`"
            )
    finally:
        probe.unlink()


def _share_what_is_there(run: Run, trust: Trust) -> None:
    below = [(Path(folder), names) for folder, _, names in os.walk(run.folder)]
    outputs = [run.paths(tar.name) for tar in run.listed()]
    folders = {run.output_dir.resolve(), *(folder for folder, _ in below)}
    for paths in outputs:
        folders.update(parent for parent in paths.committed.parents if run.output_dir in parent.parents)
    files = [folder / name for folder, names in below for name in names]
    for paths in outputs:
        files += [paths.committed, paths.partial, paths.previous, paths.features, paths.features_partial]
    share(folders, files, trust)


def launch_to_look_with(run: Run, launch: Launch) -> Launch:
    """The launch for tools that only look: if others may write the run, Slurm's commands come from this process's PATH."""
    try:
        check_run(run, trust_of())
    except UsageError:
        return msgspec.structs.replace(launch, environment={})
    return launch
