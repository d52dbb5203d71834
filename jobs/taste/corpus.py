"""Text, speech and units of the clips of one combined run, or of several runs over the same tars, joined by the rule of
jobs/same_clips.py.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from audio_tokenizers.errors import InfrastructureError, UsageError
from audio_tokenizers.shared.command_names import called
from jobs.fileops import own_files
from jobs.records import TokenRecord, decode_record
from jobs.same_clips import in_all, same_tars
from jobs.taste.lm_files import LmFiles
from jobs.taste.run_index import ClipName, RunHead, RunIndex, contents_of, index_run, open_run

__all__ = ["Clip", "Corpus", "check_runs", "open_corpus"]

TEXT, MID, FINAL, UNITS = "text_embedding", "mid", "final", "tokens"
MAKERS = {TEXT: "cosyvoice_text", MID: "whisper_features", FINAL: "whisper_features", UNITS: "cosyvoice_s3"}
FORMS = {TEXT: "features", MID: "features", FINAL: "features", UNITS: "codes"}
SAME_SECONDS = 0.01
OPEN_FILES = 64
Floats = npt.NDArray[np.floating[Any]]
AnyRun = TypeVar("AnyRun", bound=RunHead)


@dataclass(frozen=True, slots=True)
class Clip:
    """What one clip is trained with."""

    tar_file: str
    audio_file: str
    transcript: str
    text: Floats
    """float32 [tokens, text width]"""
    mid: Floats
    """float16 or float32 [frames, speech width]"""
    final: Floats
    units: npt.NDArray[np.int64]
    """[units]"""


class Corpus:
    """Clips by number, read from their files when they are asked for. Use it from one thread at a time."""

    def __init__(self, runs: dict[str, RunIndex], rows: dict[str, npt.NDArray[np.int64]]) -> None:
        """`runs`: the run of each key; `rows`: where the run has each clip."""
        self._runs = runs
        self._rows = rows
        self._files: OrderedDict[Path, int] = OrderedDict()
        first = runs[UNITS]
        self.names = [first.names[row] for row in rows[UNITS].tolist()]
        """Of each clip."""
        self.texts = runs[TEXT].floats[TEXT].rows[rows[TEXT]]
        """Text tokens of each clip."""
        self.units = first.units[rows[UNITS]]
        self.text_width = runs[TEXT].floats[TEXT].width
        self.speech_width = runs[MID].floats[MID].width

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Hex digest of which clips there are and how long each is, and of the recipes that made them."""
        digest = hashlib.sha256()
        for key in MAKERS:
            digest.update(f"{key} {self._runs[key].spec.fingerprint}\n".encode())
        for (tar, audio, place), tokens, units in zip(self.names, self.texts.tolist(), self.units.tolist(), strict=True):
            digest.update(f"{tar}\0{audio}\0{place} {tokens} {units}\n".encode())
        return digest.hexdigest()

    def read(self, number: int) -> Clip:
        """One clip. Raises InfrastructureError where its bytes are not those that were committed."""
        record = self._line(UNITS, number)
        other = record if self._runs[TEXT] is self._runs[UNITS] else self._line(TEXT, number)
        return Clip(
            tar_file=record.tar_file,
            audio_file=record.audio_file,
            transcript=other.text or "",
            text=self._floats(TEXT, number),
            mid=self._floats(MID, number),
            final=self._floats(FINAL, number),
            units=np.array(orjson.loads(bytes(record.values[UNITS])), np.int64).reshape(-1),
        )

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _line(self, key: str, number: int) -> TokenRecord:
        run, row = self._runs[key], int(self._rows[key][number])
        path = run.files[int(run.file_numbers[row])]
        record = decode_record(self._bytes(path, int(run.offsets[row]), int(run.lengths[row])))
        if not isinstance(record, TokenRecord):
            raise _changed(path)
        return record

    def _floats(self, key: str, number: int) -> Floats:
        run, row = self._runs[key], int(self._rows[key][number])
        places = run.floats[key]
        path = run.files[int(run.file_numbers[row])].with_suffix(".safetensors")
        rows, dtype = int(places.rows[row]), np.dtype(places.dtype)
        data = self._bytes(path, int(places.offsets[row]), rows * places.width * dtype.itemsize)
        if zlib.crc32(data) != int(places.checksums[row]):
            raise _changed(path)
        return np.frombuffer(data, dtype).reshape(rows, places.width)

    def _bytes(self, path: Path, offset: int, size: int) -> bytes:
        with own_files(path):
            data = self._pread(path, offset, size)
        if len(data) != size:
            raise _changed(path)
        return data

    def _pread(self, path: Path, offset: int, size: int) -> bytes:
        fd = self._files.get(path)
        if fd is None:
            fd = self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(path)
        data = b""
        while len(data) < size and (piece := os.pread(fd, size - len(data), offset + len(data))):
            data += piece
        return data


def _changed(path: Path) -> InfrastructureError:
    return InfrastructureError(
        f"{path}: it has changed since the training began, or is damaged: "
        f"{called('tools.check_progress')} --check-validity says which"
    )


def check_runs(folders: Sequence[Path], files: LmFiles) -> str:
    """What `open_corpus` checks that can be seen without reading a clip. Returns a fingerprint of what the runs hold.

    Raises UsageError.
    """
    opened = [open_run(folder) for folder in folders]
    runs = {key: _only_run([head for head, _ in opened], key) for key in MAKERS}
    _check_fit(runs, files)
    used = {id(run) for run in runs.values()}
    digest = hashlib.sha256("\n".join(sorted(contents_of(tars) for head, tars in opened if id(head) in used)).encode())
    return digest.hexdigest()


def open_corpus(folders: Sequence[Path], files: LmFiles) -> tuple[Corpus, list[str]]:
    """The clips that have everything, and a line for each reason why others are left out.

    Raises UsageError where a key is in no run or in two, where the runs do not fit the model or each other, and where no
    clip is left.
    """
    indexes = [index_run(folder, set(MAKERS)) for folder in folders]
    runs = {key: _only_run(indexes, key) for key in MAKERS}
    _check_fit(runs, files)
    used = list({id(run): run for run in runs.values()}.values())
    rows = _joined(used)
    places = {id(run): found for run, found in zip(used, rows, strict=True)}
    lines = _left_out(used, len(rows[0]))
    if not len(rows[0]):
        raise UsageError("; ".join(["no clip has text, speech and units", *lines]))
    corpus = Corpus(runs, {key: places[id(run)] for key, run in runs.items()})
    for key in (MID, FINAL):
        if not np.array_equal(runs[MID].floats[MID].rows, runs[FINAL].floats[key].rows):
            raise UsageError(f"{runs[FINAL].folder}: {MID} and {FINAL} have other numbers of rows: not of one Whisper run")
    return corpus, lines


def _only_run(runs: Sequence[AnyRun], key: str) -> AnyRun:
    found = [run for run in runs if key in run.fields()]
    if len(found) != 1:
        has = " and ".join(str(run.folder) for run in found) or "none"
        raise UsageError(
            f"--data: expected one run that has {key!r} ({MAKERS[key]} makes it), found {has}: --backend taste makes all in "
            "one run"
        )
    form = found[0].fields()[key].form
    if form != FORMS[key]:
        raise UsageError(f"{found[0].folder}: expected {key!r} as {FORMS[key]}, as {MAKERS[key]} makes it, found {form}")
    return found[0]


def _check_fit(runs: Mapping[str, RunHead], files: LmFiles) -> None:
    text, units = runs[TEXT], runs[UNITS]
    field = units.fields()[UNITS]
    if text.fields()[TEXT].width != files.text_width:
        raise UsageError(
            f"{text.folder}: its text embedding has {text.fields()[TEXT].width} floats per token, {files.config} says "
            f"{files.text_width}: they are of two models"
        )
    if field.codebook_size != files.units:
        raise UsageError(
            f"{units.folder}: its units number {field.codebook_size}, {files.config} says {files.units}: they are of two "
            "models; the right tokenizer is the one in the folder of the language model"
        )
    rate = round(units.spec.sample_rate / field.samples_per_item) if field.samples_per_item else None
    if None not in (rate, files.unit_rate) and rate != files.unit_rate:
        raise UsageError(
            f"{units.folder}: it has {rate} units per second, {files.config} is a model of {files.unit_rate}: take the "
            "tokenizer in the folder of the language model (both are called speech_tokenizer_v1.onnx)"
        )


def _joined(used: Sequence[RunIndex]) -> list[npt.NDArray[np.int64]]:
    """Where each run has the clips that all have, in the order of the first. Raises UsageError if lengths disagree."""
    if len(used) == 1:
        return [np.arange(len(used[0].names))]
    where = _rows_by_name(used)
    common = in_all(where)
    rows = [np.array([places[name] for name in common], np.int64) for places in where]
    seconds = [run.samples[found] / run.spec.sample_rate for run, found in zip(used, rows, strict=True)]
    for run, other in zip(used[1:], seconds[1:], strict=True):
        wrong = np.flatnonzero(np.abs(other - seconds[0]) > SAME_SECONDS)
        if len(wrong):
            tar, audio, _ = common[int(wrong[0])]
            raise UsageError(
                f"{used[0].folder} and {run.folder}: {audio} of {tar} has {seconds[0][wrong[0]]:.2f} s in one and "
                f"{other[wrong[0]]:.2f} s in the other: these runs are not over the same tars"
            )
    return rows


def _rows_by_name(used: Sequence[RunIndex]) -> list[dict[ClipName, int]]:
    """For each run the row of each clip, by its name in the first run; clips of tars that it lacks are left out."""
    names: list[dict[str, str]] = [{} for _ in used]
    for first, *others in same_tars([run.tars for run in used], [run.folder for run in used]):
        for of_first, tar in zip(names, (first, *others), strict=True):
            if first is not None and tar is not None:
                of_first[tar.name] = first.name
    return [
        {(of_first[tar], audio, place): row for row, (tar, audio, place) in enumerate(run.names) if tar in of_first}
        for of_first, run in zip(names, used, strict=True)
    ]


def _left_out(used: Sequence[RunIndex], joined: int) -> list[str]:
    lines = []
    for run in used:
        if run.errors:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(run.errors.items()))
            lines.append(f"{run.folder}: {run.errors.total()} clips have errors instead of tokens ({kinds})")
        if len(run.names) > joined:
            lines.append(f"{run.folder}: {len(run.names) - joined} of its {len(run.names)} clips are missing in another run")
    return lines
