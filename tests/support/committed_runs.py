"""Runs with committed files of given lines, made without tokenizing anything."""

from __future__ import annotations

import functools
import gzip
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from audio_tokenizers.base import Field
from hpc.run import ListedTar, Run
from jobs.damage import Damage
from jobs.manifest import Manifest
from jobs.records import ErrorRecord, Record, Tally, TokenRecord, encode_record
from jobs.spec import TokenizeSpec, _fingerprint, freeze_spec
from jobs.tar_paths import TarPaths
from support.small_run import mulaw_spec
from tools.common.run_files import CommittedFile, committed_files
from tools.merging.members import Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

READ_BACK: dict[Compression, Callable[[bytes], bytes]] = {"plain": bytes, "gz": gzip.decompress, "zst": zstd.decompress}
"""What a merged file's bytes say."""
BICODEC_FIELDS = (
    Field(name="global_tokens", form="list", codebook_size=4096, items=32),
    Field(name="semantic_tokens", form="list", codebook_size=8192),
)
PAIR_FIELDS = (Field(name="tokens", form="audio_string", codebook_size=5120),)
CODES = {"tokens": b"[[1,2,3],[4,5,6]]", "token_shape": b"[2,3]"}


@functools.cache
def spec_with(fields: tuple[Field, ...]) -> TokenizeSpec:
    """The spec of a run whose records have these fields."""
    as_from_file = msgspec.convert(msgspec.to_builtins(fields), tuple[Field, ...])
    spec = msgspec.structs.replace(mulaw_spec(), fields=as_from_file)
    return msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))


def record(values: Mapping[str, bytes] = CODES, **settings: Any) -> TokenRecord:
    """A record with these values."""
    raw = {key: msgspec.Raw(value) for key, value in values.items()}
    common = {"tar_file": "/d/1.tar", "audio_file": "a/b.wav", "num_samples": 2880, "sample_rate": 24000, "values": raw}
    return TokenRecord(**{**common, **settings})


def error(kind: str = "decode", **settings: Any) -> ErrorRecord:
    """An error record."""
    common = {"tar_file": "/d/1.tar", "audio_file": "bad.wav", "error": "cut", "error_kind": kind}
    return ErrorRecord(**{**common, **settings})


def some_records(number: int, clips: int = 3) -> list[Record]:
    """Clips of the tar `number`, each different, and an error."""
    tar = f"/d/{number}.tar"
    good = [
        record(
            {"tokens": b"[[%d,%d],[7,8]]" % (number, clip), "token_shape": b"[2,2]"},
            tar_file=tar,
            audio_file=f"{clip}.wav",
            text=f"{number} é 語 {clip}",
        )
        for clip in range(clips)
    ]
    return [*good, error(tar_file=tar)]


def damaged_records(number: int) -> list[Record]:
    """Three clips of the tar `number`, an error, and then two clips of which something is missing."""
    good = some_records(number)
    lost = [Damage(0.72, "frames that cannot be decoded"), Damage(0.012, "its end")]
    return [*good, *(replace(good[clip], audio_file=f"d{clip}.wav", damage=each) for clip, each in enumerate(lost))]


def lines_of(records: Sequence[Record]) -> bytes:
    """As a committed file has them."""
    return b"".join(encode_record(one) + b"\n" for one in records)


def commit(output: Path, name: str, records: Sequence[Record], spec: TokenizeSpec | None = None) -> Path:
    """Make NAME.jsonl and its manifest, as if the tar had just been tokenized; returns the file."""
    paths = TarPaths(output, name)
    tar = tar_of(output, name)
    tally, data = Tally(), lines_of(records)
    for one in records:
        tally.add(one)
    manifest = Manifest(
        tar_file=str(tar),
        input_bytes=tar.stat().st_size,
        input_mtime_ns=tar.stat().st_mtime_ns,
        fingerprint=(spec or mulaw_spec()).fingerprint,
        verdict="complete",
        clips=tally.clips,
        errors=tally.errors,
        damaged_clips=tally.damaged_clips,
        damaged_seconds=round(tally.damaged_seconds, 3),
        audio_seconds=tally.audio_seconds,
        output_bytes=len(data),
        output_sha256=hashlib.sha256(data).hexdigest(),
    )
    paths.manifest.parent.mkdir(parents=True, exist_ok=True)
    paths.manifest.write_bytes(msgspec.json.encode(manifest))
    paths.committed.write_bytes(data)
    return paths.committed


def tar_of(output: Path, name: str) -> Path:
    """The tar `name` of a run that `make_run` makes."""
    return output.parent / f"{output.name}-tars" / f"{name}.tar"


def make_run(
    output: Path, files: Mapping[str, Sequence[Record] | None], fields: tuple[Field, ...] | None = None
) -> list[CommittedFile]:
    """A run of one tar per name; those without records are not committed. Returns the committed files."""
    spec = mulaw_spec() if fields is None else spec_with(fields)
    freeze_spec(output, spec)
    for name in files:
        tar_of(output, name).parent.mkdir(exist_ok=True)
        tar_of(output, name).write_bytes(b"a tar")
    Run(output).add_to_list([str(tar_of(output, name)) for name in files], keep_dirs=False)
    for name, records in files.items():
        if records is not None:
            commit(output, name, records, spec)
    return committed_files(output, partial_ok=True)


def listed(output: Path) -> list[ListedTar]:
    """The run's list."""
    return Run(output).listed()
