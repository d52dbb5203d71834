"""python -m tools.show NAME: what one tar became, in words: its tokens, how they use their codebooks, its clips."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from audio_tokenizers.errors import UsageError
from hpc.progress import TarState, state_of
from hpc.run import ListedTar, Run
from jobs.commands import Verbose, run_command, setup_logging
from jobs.features import StoredFeatures
from jobs.lines import good_lines
from jobs.outputs import PARTIAL_SUFFIX, TarPaths
from jobs.records import ErrorRecord, Record
from jobs.reporting import counted
from jobs.spec import TokenizeSpec
from jobs.values import feature_refs
from tools.common.byte_progress import ByteProgress
from tools.common.run_files import spec_of

if TYPE_CHECKING:
    from audio_tokenizers.base import Features
    from tools.showing.text import Clip, Summary

__all__ = ["show"]

CLIPS_LISTED = 10
READ_BYTES = 1 << 20
LONG_BYTES = 64 << 20
"""A file of this size takes so long that people want to see how far it is."""
NARROWEST = 60


def find_tar(name: str, run: Run) -> ListedTar:
    """The tar of the run whose output is called `name`; or `name` is the path of the tar or of its output's file."""
    listed = run.listed()
    by_name = {tar.name: tar for tar in listed}
    by_path = {tar.tar: tar for tar in listed}
    bare = name.removesuffix(PARTIAL_SUFFIX).removesuffix(".jsonl")
    in_run = os.path.relpath(Path(bare).resolve(), run.output_dir.resolve())
    path = os.path.normpath(Path(name).absolute())
    found = by_name.get(name) or by_path.get(path) or by_name.get(bare) or by_name.get(in_run)
    if found is None:
        raise UsageError(
            f"{name}: no output of {run.output_dir}: expected the name of one of its {counted(len(listed), 'tar')}"
            f"{_close(bare, list(by_name))}"
        )
    return found


def _close(wanted: str, names: Sequence[str]) -> str:
    """`, such as a, b`: the nearest names, or the first ones."""
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4) or names[:3]
    return f", such as {', '.join(near)}" if near else ""


def _open(paths: TarPaths) -> IO[bytes]:
    for path in (paths.committed, paths.partial, paths.committed):  # again: it may have been committed in between
        with suppress(FileNotFoundError):
            return path.open("rb", buffering=READ_BYTES)
    raise UsageError(f"{paths.name}: not begun yet, so there is nothing to show: see python -m tools.check_progress")


def summarize(lines: IO[bytes], state: TarState, spec: TokenizeSpec) -> Summary:
    """Count a file's good lines, in one pass."""
    from tools.showing.histograms import CodeCounter
    from tools.showing.text import Summary

    found = Summary(state=state, path=Path(lines.name))
    features = [field.name for field in spec.fields if field.form == "features"]
    counters = {field.name: CodeCounter(field) for field in spec.fields if field.form != "features"}
    for _, record in good_lines(_watched(lines, state.name), spec.fields):
        found.tally.add(record)
        if len(found.first) < CLIPS_LISTED:
            found.first.append(record)
        if isinstance(record, ErrorRecord):
            continue
        seconds = record.num_samples / record.sample_rate
        found.shortest = min(found.shortest or seconds, seconds)
        found.longest = max(found.longest, seconds)
        for counter in counters.values():
            counter.add(record.values)
        for name, ref in zip(features, feature_refs(spec.fields, record.values), strict=True):
            found.items[name] += ref.shape[0]
    for name, counter in counters.items():
        found.counts[name] = counter.counts()
        found.items[name] = int(found.counts[name][0].sum())
    return found


def _watched(lines: IO[bytes], what: str) -> Iterator[bytes]:
    size = os.fstat(lines.fileno()).st_size
    progress = ByteProgress(what, size)
    with progress.on_terminal() if size >= LONG_BYTES else nullcontext():
        for line in lines:
            progress(len(line))
            yield line


def matching(lines: IO[bytes], wanted: Sequence[str], spec: TokenizeSpec) -> Iterator[tuple[int, Record]]:
    """The clips that are `wanted`: by index, name or glob. Raises UsageError at the end if one of these found none."""
    missing = dict.fromkeys(wanted)
    last = max(map(int, wanted)) if all(map(_is_index, wanted)) else None
    names = []
    for index, (_, record) in enumerate(good_lines(lines, spec.fields)):
        names.append(record.audio_file)
        hits = [word for word in wanted if _matches(word, index, record.audio_file)]
        for word in hits:
            missing.pop(word, None)
        if hits:
            yield index, record
        if index == last:
            break
    for word in missing:
        near = "" if _is_index(word) else _close(word, names)
        raise UsageError(
            f"--clip {word}: {lines.name} has no such clip: expected a number, from 0, or the name of one of its "
            f"{counted(len(names), 'clip')}{near}"
        )


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _matches(word: str, index: int, name: str) -> bool:
    return int(word) == index if _is_index(word) else name == word or fnmatchcase(name, word)


def with_floats(name: str, index: int, record: Record, spec: TokenizeSpec, features: Path | None) -> Clip:
    """The record with its arrays of NAME.safetensors, which there is once the file is committed."""
    from tools.showing.text import Clip

    fields = [field for field in spec.fields if field.form == "features"]
    floats: dict[str, Features | str] = {}
    if fields and not isinstance(record, ErrorRecord):
        floats = dict.fromkeys((field.name for field in fields), "its values can be read when the file is committed")
        if features is not None:
            try:
                with closing(StoredFeatures(features)) as stored:
                    for field, ref in zip(fields, feature_refs(spec.fields, record.values), strict=True):
                        floats[field.name] = stored.read(ref)
            except (UsageError, OSError) as error:
                floats = dict.fromkeys(floats, f"its values cannot be read: {error}")
    return Clip(name=name, index=index, record=record, floats=floats)


def show(
    name: Annotated[str, typer.Argument(help="an output, such as 000001; the paths of its .jsonl and of its tar do too")],
    clip: Annotated[list[str] | None, typer.Option(help="show this clip: its number from 0, its name, or a glob")] = None,
    output_dir: Annotated[Path, typer.Option(help="the run directory")] = Path("tokens"),
    listen: Annotated[Path | None, typer.Option(help="write the original of the one --clip to this .wav")] = None,
    verbose: Verbose = False,
) -> int:
    """Say what one tar became, finished or not; with --clip, what single clips became."""
    setup_logging(verbose=verbose)
    if listen is not None and (not clip or listen.suffix.lower() != ".wav"):
        raise UsageError(f"--listen {listen}: expected a name that ends in .wav, and the clip to hear as --clip")
    run = Run(output_dir.absolute())
    spec = spec_of(run.output_dir)
    tar = find_tar(name, run)
    paths = run.paths(tar.name)

    from tools.showing.histograms import Style, choose_bars
    from tools.showing.text import render_clip, render_file

    width = max(shutil.get_terminal_size().columns, NARROWEST)
    style = Style(width, choose_bars(sys.stdout.encoding))
    with _open(paths) as lines:
        state = state_of(tar.tar, paths)
        if not clip:
            print(render_file(summarize(lines, state, spec), spec.fields, style))
            return 0
        features = paths.features if Path(lines.name) == paths.committed else None
        found = matching(lines, clip, spec)
        if listen is not None:
            found = iter([_only(list(islice(found, 2)), clip)])
        for number, (index, record) in enumerate(found):
            shown = with_floats(tar.name, index, record, spec, features)
            print(("\n" if number else "") + render_clip(shown, spec.fields, style))
            if listen is not None:
                _write_original(tar, index, record, state, spec, listen)
    return 0


def _only(found: Sequence[tuple[int, Record]], wanted: Sequence[str]) -> tuple[int, Record]:
    if len(found) > 1:
        names = " and ".join(f"clip {index} ({record.audio_file})" for index, record in found)
        raise UsageError(f"--listen: expected one clip, found {names} for --clip {' --clip '.join(wanted)}")
    return found[0]


def _write_original(tar: ListedTar, index: int, record: Record, state: TarState, spec: TokenizeSpec, output: Path) -> None:
    from jobs.tar_source import tar_source
    from tools.common.rereading import Rereading
    from tools.showing.original_clip import write_original

    manifest = state.manifest
    original = write_original(
        tar_source(tar.tar),
        index,
        record.audio_file,
        output,
        how=Rereading.of(spec, manifest),
        tar_bytes=manifest.input_bytes if manifest is not None else None,
    )
    how = "a copy of the member" if original.untouched else "decoded"
    print(
        f"\nwrote {output}: the original, {how}: {original.samples / original.sample_rate:,.3f} s, "
        f"{original.sample_rate:,} Hz, {counted(original.channels, 'channel')}"
    )


if __name__ == "__main__":
    run_command(show)
