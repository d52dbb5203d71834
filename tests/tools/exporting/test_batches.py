"""tools/exporting/batches.py: a committed file's records as arrays, or a message that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.committed_runs import make_run, record
from support.exported import by_tar, code_records, same, tokenized_run

from audio_tokenizers.base import Field
from audio_tokenizers.errors import InfrastructureError, Tar2TokensError
from tools.common.run_files import committed_files, spec_of
from tools.exporting import batches
from tools.exporting.batches import Batch, number_type, read_batches

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)


def read(run: Path) -> list[Batch]:
    spec = spec_of(run)
    return [batch for file in committed_files(run) for batch in read_batches(file, spec.fields, lambda _: None)]


@pytest.mark.parametrize("size", [1, 300, 1 << 20])
@pytest.mark.parametrize("several_keys", [False, True])
def test_batches_hold_every_clip_once(
    size: int, several_keys: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large batches are: clips in order with their places in the tar, errors left out, arrays as the reader has
    them.
    """
    monkeypatch.setattr(batches, "BATCH_BYTES", size)
    run = tokenized_run(tmp_path, several_keys=several_keys)
    found = read(run)
    expected = [clip for clips in by_tar(run).values() for clip in clips]
    assert [record.audio_file for batch in found for record in batch.records] == [clip.audio_file for clip in expected]
    assert [index for batch in found for index in batch.indices] == [0, 1, 3, 4] * 3
    rows = []
    for batch in found:
        columns = {name: list(column.clips()) for name, column in batch.columns.items()}
        rows += [{name: arrays[n] for name, arrays in columns.items()} for n in range(len(batch.records))]
    assert all(same(row, clip) for row, clip in zip(rows, expected, strict=True))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (Field(name="x", form="codes", codebook_size=1 << 15), np.int16),
        (Field(name="x", form="list", lowest=1, codebook_size=1 << 15), np.int32),
        (Field(name="x", form="audio_string", codebook_size=151_936), np.int32),
        (Field(name="x", form="features", width=2, dtype="float16"), np.float16),
    ],
)
def test_types_hold_every_value(field: Field, kind: type) -> None:
    """16 bits where they are enough, else 32."""
    assert number_type(field) == kind


def test_large_codes_are_exact(tmp_path: Path) -> None:
    """Codes above 32767 come as int32, each as it was written."""
    field = Field(name="tokens", form="list", codebook_size=200_000)
    make_run(tmp_path / "run", {"a": [record({"tokens": b"[0,32768,199999]"})]}, (field,))
    assert read(tmp_path / "run")[0].columns["tokens"].numbers.tolist() == [0, 32768, 199_999]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tokens": b"[[1,2],[3,4]]", "token_shape": b"[2,3]"}, "its shapes do not fit its codes"),
        ({"tokens": b"[[1,2],[3,4],[5,6]]", "token_shape": b"[3,2]"}, "its shapes do not fit its codes"),
        ({"tokens": b"[[1,2],[3,1024]]", "token_shape": b"[2,2]"}, "expected 0..1023, found others"),
        ({"tokens": b"[[1,2],[3,4]]", "token_shape": b"{"}, "line 2 is no record"),
        ({"tokens": b"[[1,2],[3,4.5]]", "token_shape": b"[2,2]"}, "expected integers"),
        ({"tokens": b"[[1,2],[3,4]]", "token_shape": b"7"}, "expected shapes of codes"),
        ({"other": b"[[1,2],[3,4]]"}, "line 2: expected tokens, token_shape, found other"),
    ],
)
def test_values_that_do_not_fit_the_spec_are_never_exported(values: dict[str, bytes], words: str, tmp_path: Path) -> None:
    """Nothing is cut, wrapped or guessed: the message names the file and what is wrong."""
    good = record({"tokens": b"[[1,2],[3,4]]", "token_shape": b"[2,2]"})
    make_run(tmp_path / "run", {"a": [good, record(values), good]}, CODES)
    with pytest.raises(InfrastructureError, match=rf"a\.jsonl: .*{words.replace('.', '[.]')}.*check-validity"):
        read(tmp_path / "run")


def test_bytes_that_were_not_committed_are_refused(tmp_path: Path) -> None:
    """A file that someone has edited is not exported, though its size and every line are right."""
    make_run(tmp_path / "run", {"a": code_records(["x.wav"])}, CODES)
    path = tmp_path / "run" / "a.jsonl"
    path.write_bytes(path.read_bytes().replace(b"x.wav", b"y.wav"))
    with pytest.raises(InfrastructureError, match="not those that were committed"):
        read(tmp_path / "run")


def test_damaged_floats_are_refused(tmp_path: Path) -> None:
    """Floats are checked against what their lines say."""
    run = tokenized_run(tmp_path, several_keys=True)
    path = run / "b.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Tar2TokensError, match=r"b\.safetensors: .*damaged"):
        read(run)


def test_bytes_read_are_told(tmp_path: Path) -> None:
    """Progress counts the lines of a file, and its floats."""
    run = tokenized_run(tmp_path, several_keys=True)
    file = committed_files(run)[0]
    told: list[int] = []
    for _ in read_batches(file, spec_of(run).fields, told.append):
        pass
    floats = sum(clip.arrays[key].nbytes for clip in by_tar(run)["a"] for key in ("envelope", "sum"))
    assert sum(told) == file.manifest.output_bytes + floats
    assert msgspec.json.decode(file.path.read_bytes().splitlines()[0])["audio_file"] == "000.wav"
