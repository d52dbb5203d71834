"""An old output -> a run: the index of its lines, the clips of the tars, and then tar by tar."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from audio_tokenizers.errors import UsageError
from hpc.run import ListedTar
from jobs.scratch import scratch_trouble
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths
from tools.adopting.judging import Reason
from tools.adopting.line_index import Key, LineIndex, key_of
from tools.adopting.old_files import FoundLine, OldFile, find_old_files, read_old_lines
from tools.adopting.old_lines import TOOLS, OldLine, UnfitError, kind_for, read_old_line, values_of
from tools.adopting.one_tar import TarAdoption, TarToAdopt, adopt_tar, keys_of_tar
from tools.common.process_pool import in_processes
from tools.merging.shapes import Shape

__all__ = ["Adoption", "adopt_output"]

BASE, UNPACKED = "lines.sqlite", "{}.jsonl"
FITTED = 100
"""Lines with tokens whose form is looked at before anything is written."""
TOLD = 3
"""Examples of lines that are not used."""


@dataclass(slots=True)
class Adoption:
    """The result over all tars."""

    kind: Shape
    files: int
    lines: int = 0
    """Lines of this kind."""
    tars: int = 0
    """Tars with adopted lines."""
    committed: int = 0
    adopted: int = 0
    adopted_seconds: float = 0.0
    there: int = 0
    made_again: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, str] = field(default_factory=dict)
    faulty_lines: int = 0
    """Lines that cannot be read, or are of another kind."""
    unused_lines: int = 0
    """Lines that name no clip of the tars."""
    line_examples: list[str] = field(default_factory=list)
    """Of both."""
    left_alone: int = 0
    """Tars that were committed before."""
    without_lines: int = 0
    """Tars of which the old output has nothing."""
    problems: list[str] = field(default_factory=list)
    """Tars that could not be read to their end, or written."""

    def add(self, one: TarAdoption) -> None:
        """Count a tar."""
        self.adopted += one.adopted
        self.adopted_seconds += one.adopted_seconds
        self.there += one.there
        self.tars += one.adopted > 0
        self.committed += one.committed
        self.made_again.update(one.made_again)
        for reason, words in one.examples.items():
            self.examples.setdefault(reason, words)
        if one.problem:
            self.problems.append(one.problem)


def adopt_output(
    old: Path,
    listed: Sequence[ListedTar],
    output_dir: Path,
    spec: TokenizeSpec,
    *,
    workers: int = 1,
    dry_run: bool = False,
    prepare: Callable[[], None] = lambda: None,
    tell: Callable[[int], None] = lambda _: None,
) -> Adoption:
    """Take the lines of `old` that are of the clips of `listed` into the run in `output_dir`, which has this spec.

    `prepare` is called before anything is written to the run; `tell` gets bytes of tars that are done. Raises UsageError if
    there are no lines, or none that the backend can have made, and InfrastructureError.
    """
    kind = kind_for(spec.fields)
    files = find_old_files(old)
    with scratch_trouble():
        folder = tempfile.TemporaryDirectory(prefix="tar2tokens-adopt-")
    with folder as name, closing(LineIndex(Path(name) / BASE, create=True)) as index:
        found = Adoption(kind, len(files))
        _Gathering(old, files, Path(name), listed, spec, found, index).gather()
        if not dry_run:
            prepare()
        tasks = [
            TarToAdopt(
                number=number,
                tar=tar.tar,
                name=tar.name,
                output_dir=output_dir,
                spec=spec,
                kind=kind,
                index=index.path,
                dry_run=dry_run,
            )
            for number, tar in enumerate(listed)
        ]
        _adopt_tars(tasks, found, index, workers, tell)
        found.unused_lines, first = index.unused()
        if first is not None and len(found.line_examples) <= TOLD:
            found.line_examples.append(f"{files[first.file].path}: line {first.number}: no clip that was looked for")
    return found


def _adopt_tars(
    tasks: Sequence[TarToAdopt], found: Adoption, index: LineIndex, workers: int, tell: Callable[[int], None]
) -> None:
    with_lines = index.tars() if found.kind == "higgs" else {task.number for task in tasks}
    named = [task for task in tasks if task.number in with_lines]
    found.without_lines = len(tasks) - len(named)
    for keys in in_processes(keys_of_tar, named, workers, lambda _: None):
        index.add_clips(keys)
    index.clips_are_complete()
    todo = []
    for task in named:
        if TarPaths(task.output_dir, task.name).committed.exists():
            found.left_alone += 1
            index.use_lines_of(task.number)
        else:
            todo.append(task)
    for one in in_processes(adopt_tar, todo, workers, tell):
        found.add(one)
        index.add_used(one.used)


@dataclass(slots=True)
class _Gathering:
    """Puts the lines of all files into the index."""

    old: Path
    files: Sequence[OldFile]
    folder: Path
    listed: Sequence[ListedTar]
    spec: TokenizeSpec
    found: Adoption
    index: LineIndex
    others: Counter[Shape] = field(default_factory=Counter)
    """Lines of other kinds."""
    unfit: list[str] = field(default_factory=list)
    """Of the first lines with tokens: what is wrong with them."""
    fitting: int = 0

    def gather(self) -> None:
        """Raises UsageError if no line is of the backend's kind, or none of the first has its form."""
        by_stem: dict[str, list[int]] = {}
        for number, tar in enumerate(self.listed):
            by_stem.setdefault(TarPaths.stem(Path(tar.tar)), []).append(number)
        tars = _Tars({tar.tar: number for number, tar in enumerate(self.listed)}, by_stem)
        for number, file in enumerate(self.files):
            plain = self.folder / UNPACKED.format(number)
            self.index.add_lines(self._lines(number, file, plain, tars))
            self.index.add_file(number, (plain if plain.exists() else file.path).absolute())
        self.index.lines_are_complete()
        if not self.found.lines:
            self._refuse()
        if self.unfit and not self.fitting:
            raise UsageError(
                f"{self.old}: no line of the first {len(self.unfit)} with tokens fits the backend {self.spec.backend}: "
                f"{self.unfit[0]}: give the backend and the options (--set) that its tokens were made with"
            )

    def _refuse(self) -> None:
        wanted = f"lines of {TOOLS[self.found.kind]}, which the backend {self.spec.backend} continues"
        if self.others:
            kinds = ", ".join(f"{number:,} of {TOOLS[kind]}" for kind, number in self.others.items())
            raise UsageError(f"{self.old}: expected {wanted}, found {kinds}: give the backend of these")
        example = f": {self.found.line_examples[0]}" if self.found.line_examples else ""
        raise UsageError(f"{self.old}: expected {wanted}, found none{example}")

    def _lines(
        self, file_number: int, file: OldFile, plain: Path, tars: _Tars
    ) -> Iterator[tuple[int | None, Key, int, int, int, int]]:
        for found in read_old_lines(file, plain):
            try:
                line = self._read(found)
                tar = tars.number_of(line, file) if line.kind == "higgs" else None
            except UnfitError as error:
                self.found.faulty_lines += 1
                self._tell(file, found, str(error))
                continue
            yield tar, key_of(tar, line.name), file_number, found.number, found.start, len(found.data)

    def _read(self, found: FoundLine) -> OldLine:
        if found.fault:
            raise UnfitError(found.fault)
        line = read_old_line(found.data)
        if line.kind != self.found.kind:
            self.others[line.kind] += 1
            raise UnfitError(f"a line of {TOOLS[line.kind]}")
        self.found.lines += 1
        if line.error is None and not self.fitting and len(self.unfit) < FITTED:
            try:
                values_of(line, self.spec.fields)
                self.fitting += 1
            except UnfitError as error:
                self.unfit.append(f"{line.name}: {error}")
        return line

    def _tell(self, file: OldFile, found: FoundLine, words: str) -> None:
        if len(self.found.line_examples) < TOLD:
            place = f"line {found.number}: " if found.number else ""
            self.found.line_examples.append(f"{file.path}: {place}{words}")


@dataclass(frozen=True, slots=True)
class _Tars:
    """The tars of the list, as old lines and files name them."""

    by_path: Mapping[str, int]
    by_stem: Mapping[str, Sequence[int]]

    def number_of(self, line: OldLine, file: OldFile) -> int | None:
        """The tar that a line is of: that of its path, or the only one of its name, which may have moved or been compressed;
        None: not listed.

        Raises UnfitError where the line's file is that of another tar, or its tar cannot be told from another.
        """
        number = self.by_path.get(line.tar)
        named = self.by_stem.get(TarPaths.stem(Path(line.tar)), []) if number is None else [number]
        if len(named) > 1:
            raise UnfitError(f"its tar_file is {line.tar}, and the list has {len(named)} tars of this name")
        if file.name in self.by_stem and not {*self.by_stem[file.name]} & {*named}:
            raise UnfitError(f"its tar_file is {line.tar}, its file is named after another tar")
        return named[0] if named else None
