"""jobs/validation.py: what `write, read, validate` promises, on files that are right and on every damaged byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.envelope import Envelope, envelope_spec
from support.lossy import damaged_tar, use_lossy_decode
from support.small_run import CLIPS, mulaw_spec, small_tar, tokenize

from jobs.manifest import Manifest
from jobs.records import TokenRecord, decode_record, encode_record
from jobs.spec import adopting
from jobs.tar_paths import TarPaths, read_manifest
from jobs.validation import validate_file


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A committed file and its manifest."""
    folder = tmp_path_factory.mktemp("committed")
    tokenize(small_tar(folder / "a.tar", clips=CLIPS), folder)
    paths = TarPaths(folder, "a")
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    return paths.committed, manifest


def test_right_file(committed: tuple[Path, Manifest]) -> None:
    """What was committed is valid, error records and all."""
    found = validate_file(*committed, mulaw_spec())
    assert (found.clips, found.fault) == (CLIPS, None)


def test_empty_file_of_a_tar_without_clips(tmp_path: Path, committed: tuple[Path, Manifest]) -> None:
    """No clips, no lines: valid if the manifest says so."""
    (tmp_path / "x.jsonl").touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest = msgspec.structs.replace(committed[1], clips=0, errors={}, output_sha256=empty)
    assert validate_file(tmp_path / "x.jsonl", manifest, mulaw_spec()).fault is None


def test_notes_that_are_not_those_of_the_manifest(committed: tuple[Path, Manifest]) -> None:
    """What is counted is what the lines say."""
    manifest = msgspec.structs.replace(committed[1], notes={"opposite_phase": 1})
    fault = validate_file(committed[0], manifest, mulaw_spec()).fault
    assert fault == "its clips note nothing, its manifest says {'opposite_phase': 1}"


def test_lines_of_another_tool_in_a_run_that_adopts_none(committed: tuple[Path, Manifest], tmp_path: Path) -> None:
    """Copied from another run, they would pass for tokens of this recipe; a run with adopted lines may hold them."""
    record = decode_record(committed[0].read_bytes().splitlines()[0])
    assert isinstance(record, TokenRecord)
    data = encode_record(msgspec.structs.replace(record, notes=("adopted",))) + b"\n"
    (tmp_path / "a.jsonl").write_bytes(data)
    found = {"clips": 1, "errors": {}, "notes": {"adopted": 1}, "output_sha256": hashlib.sha256(data).hexdigest()}
    spec = adopting(mulaw_spec(), "higgs")
    manifest = msgspec.structs.replace(committed[1], fingerprint=spec.fingerprint, **found)
    assert validate_file(tmp_path / "a.jsonl", manifest, spec).fault is None
    fault = validate_file(tmp_path / "a.jsonl", manifest, mulaw_spec()).fault or ""
    assert fault.startswith("line 1: 000.wav: another tool made its tokens")


@settings(max_examples=200)
@given(st.data())
@pytest.mark.slow
def test_any_damaged_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, committed: tuple[Path, Manifest], data: st.DataObject
) -> None:
    """Change, drop or add any byte, or cut anywhere: never valid, never an exception."""
    right = committed[0].read_bytes()
    place = data.draw(st.integers(0, len(right) - 1))
    new = data.draw(st.binary(min_size=0, max_size=3))
    length = data.draw(st.integers(0, 3) | st.just(len(right)))
    damaged = right[:place] + new + right[place + length :]
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    path.write_bytes(damaged)
    fault = validate_file(path, committed[1], mulaw_spec()).fault
    assert (fault is None) == (damaged == right)


def test_error_without_words(tmp_path: Path, committed: tuple[Path, Manifest]) -> None:
    """An error record has to say something."""
    line = b'{"tar_file":"a","audio_file":"b","error":"","error_kind":"decode"}\n'
    (tmp_path / "x.jsonl").write_bytes(line)
    assert validate_file(tmp_path / "x.jsonl", committed[1], mulaw_spec()).fault == "line 1: b: an error without words"


def test_first_fault_has_its_line(tmp_path: Path, committed: tuple[Path, Manifest]) -> None:
    """Tokens are checked many lines at a time, and still the first wrong line is the one that is named."""
    lines = committed[0].read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"tokens":[[', b'"tokens":[[999,', 1)
    lines[3] = b"no record\n"
    (tmp_path / "x.jsonl").write_bytes(b"".join(lines))
    fault = validate_file(tmp_path / "x.jsonl", committed[1], mulaw_spec()).fault
    assert fault is not None
    assert fault.startswith("line 2: 001.wav:")


def test_unreadable_file_raises(tmp_path: Path, committed: tuple[Path, Manifest]) -> None:
    """That a file cannot be read is no statement about its content."""
    with pytest.raises(OSError, match="none"):
        validate_file(tmp_path / "none", committed[1], mulaw_spec())


def test_floats_beside_the_lines_are_checked(tmp_path: Path) -> None:
    """A file of floats that is damaged, or gone, makes its lines invalid, though each of them is right."""
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path, spec=envelope_spec(), backend=Envelope())
    paths = TarPaths(tmp_path, "a")
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    assert validate_file(paths.committed, manifest, envelope_spec()).fault is None
    right = paths.features.read_bytes()
    paths.features.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    assert (
        validate_file(paths.committed, manifest, envelope_spec()).fault
        == "a.safetensors: the tensor 4/sum is damaged or cut"
    )
    paths.features.unlink()
    assert validate_file(paths.committed, manifest, envelope_spec()).fault == "a.safetensors is missing"


def test_every_key_is_checked(tmp_path: Path) -> None:
    """A key with a value out of its range, or of a length that does not fit the clip, is found and named."""
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path, spec=envelope_spec(), backend=Envelope())
    paths = TarPaths(tmp_path, "a")
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    lines = paths.committed.read_bytes()
    for old, new, words in (
        (b'"tokens":"<audio_', b'"tokens":"<audio_999', "line 1: 000.wav: expected a string of <audio_N>"),
        (b'"tokens":"', b'"tokens":"<audio_1><audio_1><audio_1>', "line 1: 000.wav: 40 samples became 43 tokens"),
        (b'"levels":[', b'"levels":[1', "line 1: 000.wav: levels: expected a list, N in 100..355"),
        (b'"levels":[', b'"levels":[100,', "line 1: 000.wav: levels has 4 items, expected 3"),
    ):
        paths.committed.write_bytes(lines.replace(old, new, 1))
        assert (validate_file(paths.committed, manifest, envelope_spec()).fault or "").startswith(words)


def test_damage_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of damaged clips are what the manifest says, and a run that keeps none has none."""
    use_lossy_decode(monkeypatch)
    tokenize(damaged_tar(tmp_path / "a.tar"), tmp_path)
    path, manifest = TarPaths(tmp_path, "a").committed, read_manifest(TarPaths(tmp_path, "a").manifest)
    assert manifest is not None
    assert validate_file(path, manifest, mulaw_spec()).fault is None
    for change in ({"damaged_clips": 2}, {"damaged_seconds": 0.071}):
        fault = validate_file(path, msgspec.structs.replace(manifest, **change), mulaw_spec()).fault
        assert fault is not None
        assert "3 damaged clips that lack 0.070 s, its manifest says" in fault
    strict = mulaw_spec(max_damage=0.0)
    manifest = msgspec.structs.replace(manifest, fingerprint=strict.fingerprint)
    fault = validate_file(path, manifest, strict).fault
    assert fault == "line 1: 0.wav: it lacks 0.030 s, and the run keeps no damaged clip"
