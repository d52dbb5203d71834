"""A committed file -> one tar for WebDataset: KEY.TOKENS.npy, KEY.json and, if asked for, the audio as it was."""

from __future__ import annotations

import functools
import io
import tarfile
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from audio_tokenizers.base import Codes, Features
from jobs.records import line_parts
from jobs.spec import TokenizeSpec
from tools.common.rereading import Rereading
from tools.common.run_files import CommittedFile
from tools.common.tar_header import tar_header
from tools.exporting.batches import Tell, number_type, read_batches
from tools.exporting.keys import ClipKeys
from tools.exporting.originals import Originals

__all__ = ["write_webdataset"]

BLOCK = tarfile.BLOCKSIZE
COPY_BYTES = 1 << 20
ZEROS = bytes(2 * BLOCK)


def write_webdataset(file: CommittedFile, path: Path, spec: TokenizeSpec, tell: Tell, *, with_audio: bool = False) -> None:
    """Write one sample per record with tokens, in order.

    Raises InfrastructureError if the file is not what was committed, UsageError if its tar is gone or has changed; the
    output is invalid then.
    """
    keys = ClipKeys()
    endings = [f"{field.name}.npy" for field in spec.fields]
    kinds = [number_type(field).str for field in spec.fields]
    originals = Originals(file, Rereading.of(spec, file.manifest)) if with_audio else None
    with path.open("wb", buffering=COPY_BYTES) as tar, closing(originals) if originals else nullcontext():
        for batch in read_batches(file, spec.fields, tell):
            arrays = [batch.columns[field.name].clips() for field in spec.fields]
            for index, record, *values in zip(batch.indices, batch.records, *arrays, strict=True):
                key = keys.key(record.audio_file)
                if originals is not None:
                    audio, extension = originals.audio(index, record.audio_file)
                    with audio:
                        _add_stream(tar, f"{key}.{extension}", audio)
                _add(tar, f"{key}.json", b"".join(line_parts(record, ())))
                for ending, kind, array in zip(endings, kinds, values, strict=True):
                    _add(tar, f"{key}.{ending}", _npy_header(kind, array.shape), array)
        if originals is not None:
            originals.finish()
        tar.write(ZEROS)


@functools.lru_cache(maxsize=4096)
def _npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _add(tar: BinaryIO, name: str, head: bytes, array: Codes | Features | None = None) -> None:
    size = len(head) + (0 if array is None else array.nbytes)
    body = b"" if array is None else array.data  # in C order: a slice of a flat array
    tar.write(b"".join((tar_header(name, size), head, body, ZEROS[: -size % BLOCK])))


def _add_stream(tar: BinaryIO, name: str, audio: IO[bytes]) -> None:
    size = audio.seek(0, io.SEEK_END)
    audio.seek(0)
    tar.write(tar_header(name, size))
    while piece := audio.read(COPY_BYTES):
        tar.write(piece)
    tar.write(ZEROS[: -size % BLOCK])
