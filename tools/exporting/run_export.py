"""Exports a run to a folder: the missing parts, and a data set card for the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words
from audio_tokenizers.shared.wording import counted
from jobs.channels import ADOPTED, describe_note
from jobs.fileops import FileOps
from jobs.spec import TokenizeSpec
from tools.common.run_files import CommittedFile, committed_files, spec_of
from tools.exporting.plan import PART_BYTES, ExportFormat, Plan, make_plan

__all__ = ["export_run"]


def export_run(
    output_dir: Path,
    folder: Path,
    to: ExportFormat,
    *,
    with_audio: bool = False,
    partial_ok: bool = False,
    workers: int = 1,
    part_bytes: int = PART_BYTES,
    ops: FileOps | None = None,
) -> str:
    """Export the run in `output_dir` to `folder`, or its missing parts; returns a message about the result."""
    from tools.exporting.folder import freeze_plan, make_parts, missing_parts

    if to in ("parquet", "hf"):
        _check_pyarrow(to)
    spec = spec_of(output_dir)
    files = committed_files(output_dir, partial_ok=partial_ok)
    plan = make_plan(
        files,
        to=to,
        fingerprint=spec.fingerprint,
        with_audio=with_audio,
        part_bytes=part_bytes,
        keeps_damaged=spec.max_damage > 0,
    )
    freeze_plan(folder, plan, ops)
    missing = missing_parts(folder, plan)
    by_name = {file.name: file for file in files}
    written = make_parts(folder, plan, missing, by_name, spec, workers=workers, ops=ops) if missing else 0
    card_missing = _write_card(folder, plan, files, spec, ops) if to == "hf" else False
    what = _describe(plan, files)
    if not missing and not card_missing:
        return f"nothing to do: {folder} holds {what}"
    before = len(plan.parts) - len(missing)
    there = f" ({counted(before, 'part')} of {len(plan.parts):,} from before)" if before else ""
    return f"{folder}: {what}{there}; {_megabytes(written)} written now"


def _check_pyarrow(to: str) -> None:
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError:
        raise UsageError(f"--to {to} needs pyarrow: {install_words('export')}") from None


def _write_card(folder: Path, plan: Plan, files: Sequence[CommittedFile], spec: TokenizeSpec, ops: FileOps | None) -> bool:
    """Write README.md, the last file of a data set, unless it exists: the user may have changed it."""
    from tools.common.whole_files import replacing
    from tools.exporting.hf import dataset_card

    path = folder / "README.md"
    if path.exists():
        return False
    with replacing(path, ops) as private:
        private.write_text(
            dataset_card(spec, clips=_clips(files), files=len(plan.parts), notes=plan.notes), encoding="utf-8"
        )
    return True


def _clips(files: Sequence[CommittedFile]) -> int:
    return sum(file.manifest.clips - sum(file.manifest.errors.values()) for file in files)


def _describe(plan: Plan, files: Sequence[CommittedFile]) -> str:
    errors: Counter[str] = Counter()
    for file in files:
        errors.update(file.manifest.errors)
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(errors.items()))
    left_out = f", {counted(errors.total(), 'clip')} with errors left out ({kinds})" if errors else ""
    damaged = sum(file.manifest.damaged_clips for file in files)
    kept = f", {counted(damaged, 'damaged clip')} among them" if damaged else ""
    adopted = sum(file.manifest.notes.get(ADOPTED, 0) for file in files)
    kept += f", {counted(adopted, 'clip')} {describe_note(ADOPTED)}" if adopted else ""
    what = counted(len(plan.parts), "folder" if plan.to == "npz" else "file")
    read = _megabytes(sum(file.manifest.output_bytes + file.manifest.features_bytes for file in files))
    return f"{counted(_clips(files), 'clip')} of {counted(len(files), 'tar')} in {what}, from {read}{kept}{left_out}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
