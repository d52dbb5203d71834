"""The folder of an export: its frozen plan, its missing parts, and making them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from jobs.any_json import decode_json
from jobs.fileops import FileOps
from jobs.spec import TokenizeSpec
from tools.common.byte_progress import ByteProgress
from tools.common.process_pool import Tell, in_processes
from tools.common.run_files import CommittedFile
from tools.common.whole_files import replacing, replacing_folder, sweep
from tools.exporting.plan import PLAN_FILE, ExportFormat, Part, Plan, differences

__all__ = ["freeze_plan", "make_parts", "missing_parts"]


def freeze_plan(folder: Path, plan: Plan, ops: FileOps | None = None) -> None:
    """Store `plan`, or compare it with the stored one. Raises UsageError if they differ, or the folder holds other files."""
    frozen = _read_plan(folder)
    if frozen is None:
        try:
            found = sorted(path.name for path in folder.iterdir() if not path.name.startswith(f".{PLAN_FILE}."))
        except FileNotFoundError:
            found = []
        except NotADirectoryError:
            raise UsageError(f"--output {folder}: expected a folder, found a file: give another name") from None
        if found:
            raise UsageError(
                f"--output {folder}: expected an empty folder or one that {called('tools.export')} began, found "
                f"{found[0]!r} in it: give another one"
            )
        with replacing(folder / PLAN_FILE, ops) as private:
            private.write_bytes(msgspec.json.encode(plan))
        return
    if frozen != plan:
        raise UsageError(
            f"--output {folder}: it holds another export: {'; '.join(differences(frozen, plan))}: give another --output, or "
            "remove this one"
        )


def _read_plan(folder: Path) -> Plan | None:
    path = folder / PLAN_FILE
    try:
        return decode_json(path.read_bytes(), Plan)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{path}: expected the plan of an export by this version of tar2tokens ({error}): give another --output"
        ) from None


def missing_parts(folder: Path, plan: Plan) -> list[Part]:
    """Missing parts, in order. Removes leftovers of dead processes."""
    for parent in {folder, *((folder / part.path).parent for part in plan.parts)}:
        sweep(parent)
    return [part for part in plan.parts if not (folder / part.path).exists()]


@dataclass(frozen=True, slots=True)
class _Task:
    """A part to make, in any process."""

    path: Path
    to: ExportFormat
    with_audio: bool
    notes: bool
    files: tuple[CommittedFile, ...]
    spec: TokenizeSpec


def make_parts(
    folder: Path,
    plan: Plan,
    parts: Sequence[Part],
    files: Mapping[str, CommittedFile],
    spec: TokenizeSpec,
    *,
    workers: int,
    ops: FileOps | None = None,
) -> int:
    """Make `parts` of the plan from `files`, by name; returns the bytes written."""
    tasks = [
        _Task(
            folder / part.path,
            plan.to,
            plan.with_audio,
            plan.notes,
            tuple(files[source.name] for source in part.sources),
            spec,
        )
        for part in parts
    ]
    total = sum(file.manifest.output_bytes + file.manifest.features_bytes for task in tasks for file in task.files)
    progress = ByteProgress("export", total)
    with progress.on_terminal():
        return sum(in_processes(functools.partial(_make_part, ops=ops), tasks, workers, progress))


def _make_part(task: _Task, tell: Tell, ops: FileOps | None = None) -> int:
    # Each format is imported by the process that writes it: pyarrow alone takes half a second.
    try:
        if task.to == "npz":
            from tools.exporting.npz import write_npz

            with replacing_folder(task.path, ops) as private:
                return write_npz(task.files[0], private, task.spec, tell)
        with replacing(task.path, ops) as private:
            _write_file(task, private, tell)
            return private.stat().st_size
    except OSError as error:
        raise InfrastructureError(
            f"{task.path}: cannot be written: {error.strerror or error}; the same command resumes with what is missing"
        ) from error


def _write_file(task: _Task, path: Path, tell: Tell) -> None:
    if task.to == "webdataset":
        from tools.exporting.webdataset import write_webdataset

        write_webdataset(task.files[0], path, task.spec, tell, with_audio=task.with_audio)
        return
    from tools.exporting.hf import features_metadata
    from tools.exporting.parquet import write_parquet

    types = features_metadata(task.spec, notes=task.notes) if task.to == "hf" else None
    write_parquet(task.files, path, task.spec, tell, types, notes=task.notes)
