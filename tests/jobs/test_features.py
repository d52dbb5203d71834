"""jobs/features.py: floats beside the lines keep the lines' promises: resume, take-over, commit, the same bytes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.crashing import CrashingOps, PowerLossOps, SimulatedCrash
from support.envelope import Envelope, envelope, envelope_spec
from support.small_run import BAD_CLIP, CLIPS, small_tar, stopping_after, tokenize, wav, write_tar

from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.audio import decode
from jobs.features import FeatureSource, StoredFeatures, features_fault
from jobs.fileops import FileOps
from jobs.ledger import Ledger
from jobs.record_fields import FeatureRef
from jobs.tar_paths import TarPaths, committed_fault, read_manifest
from jobs.tar_work import TarResult

FILES = ("speech.jsonl", "speech.safetensors")


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return small_tar(tmp_path / "in" / "speech.tar")


def run(tar: Path, output: Path, ops: FileOps | None = None, **settings: object) -> TarResult:
    settings.setdefault("backend", Envelope())
    return tokenize(tar, output, ops, spec=envelope_spec(), **settings)


def files(output: Path) -> list[bytes]:
    return [(output / name).read_bytes() for name in FILES]


@pytest.fixture
def reference(tar: Path, tmp_path: Path) -> list[bytes]:
    """Both committed files of an undisturbed run."""
    run(tar, tmp_path / "reference")
    return files(tmp_path / "reference")


def test_records_say_where_their_floats_stand(tar: Path, tmp_path: Path) -> None:
    """The safetensors library reads each array under the key, with the shape and dtype, that its record has."""
    result = run(tar, tmp_path)
    tensors = load_file(tmp_path / "speech.safetensors")
    lines = [json.loads(line) for line in (tmp_path / "speech.jsonl").read_bytes().splitlines()]
    with_floats = [line for line in lines if "error" not in line]
    assert len(with_floats) == CLIPS - 1
    assert list(with_floats[0]) == [
        *("tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "levels", "envelope", "sum", "text")
    ]
    assert len(tensors) == 2 * len(with_floats)
    for number, line in enumerate(lines):
        if number == BAD_CLIP:
            continue
        (wave, _), *_ = decode(io.BytesIO(wav(40 + number, seed=number)), mono="mean", max_seconds=None)
        for name in ("envelope", "sum"):
            array = tensors[line[name]["key"]]
            assert line[name]["key"] == f"{number}/{name}"
            assert (list(array.shape), str(array.dtype)) == (line[name]["shape"], line[name]["dtype"])
            assert np.array_equal(array, envelope(wave.astype(np.float64))[name])
    assert result.manifest.features_bytes == (tmp_path / "speech.safetensors").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".s", "s"))) == list(FILES)


@pytest.mark.slow
def test_a_crash_at_any_file_operation_costs_nothing(tar: Path, reference: list[bytes], tmp_path: Path) -> None:
    """Stopped before or after each operation, then resumed: both files as ever, and lines never without floats."""
    counting = CrashingOps()
    run(tar, tmp_path / "count", counting)
    for after in (False, True):
        for crash_at in range(counting.count):
            output = tmp_path / f"{after}-{crash_at}"
            with pytest.raises(SimulatedCrash):
                run(tar, output, CrashingOps(crash_at, after=after))
            if (output / "speech.jsonl").exists():
                assert files(output) == reference
                with pytest.raises(ClaimLostError):  # it is committed: what is left is swept up
                    run(tar, output)
            else:
                run(tar, output)
            assert files(output) == reference
            assert sorted(path.name for path in output.iterdir()) == [".run", *FILES]


@pytest.mark.slow
def test_power_loss_at_any_file_operation_costs_nothing(tar: Path, reference: list[bytes], tmp_path: Path) -> None:
    """Bytes and names that no fsync had made durable may vanish; lines that lost their floats are made again."""
    counting = CrashingOps()
    run(tar, tmp_path / "count", counting)
    for seed in range(3):
        for crash_at in range(counting.count):
            output = tmp_path / f"{seed}-{crash_at}"
            ops = PowerLossOps(crash_at, after=bool((crash_at + seed) % 2), seed=1000 * seed + crash_at)
            with pytest.raises(SimulatedCrash):
                run(tar, output, ops)
            ops.lose_power()
            if not (output / "speech.jsonl").exists():
                run(tar, output)
            assert files(output) == reference


def test_floats_cut_or_changed_at_any_place_are_made_again(tar: Path, reference: list[bytes], tmp_path: Path) -> None:
    """A partial keeps the lines whose floats are all there as they were written, and no other."""
    begun, output = tmp_path / "begun", tmp_path / "out"
    run(tar, begun, backend=Envelope(max_batch=1), **stopping_after(4))
    floats = (begun / "speech.safetensors.partial").read_bytes()
    for place in range(0, len(floats), 7):
        for damaged in (floats[:place], floats[:place] + bytes([floats[place] ^ 1]) + floats[place + 1 :]):
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(begun, output)
            (output / "speech.safetensors.partial").write_bytes(damaged)
            run(tar, output)
            assert files(output) == reference


def test_retrying_errors_makes_all_floats_again(tar: Path, reference: list[bytes], tmp_path: Path) -> None:
    """The floats of old lines are in a file that will be replaced: every clip is encoded, and the bytes are the same."""
    run(tar, tmp_path / "out")
    backend = Envelope()
    run(tar, tmp_path / "out", retry_errors=True, backend=backend)
    assert files(tmp_path / "out") == reference
    assert sum(map(len, backend.batches)) == CLIPS - 1


def test_a_tar_without_clips_has_an_empty_file(tmp_path: Path) -> None:
    """A safetensors file of no tensors, which its library opens."""
    run(write_tar(tmp_path / "speech.tar", {"a.txt": b"no audio"}), tmp_path / "out")
    assert load_file(tmp_path / "out" / "speech.safetensors") == {}


def test_a_lost_or_cut_features_file_is_not_trusted(tar: Path, tmp_path: Path) -> None:
    """A committed file whose floats are gone or of another size is shown as invalid, as one that was changed itself."""
    run(tar, tmp_path)
    paths = TarPaths(tmp_path, "speech")
    manifest = read_manifest(paths.manifest)
    assert committed_fault(paths, tar, manifest) is None
    paths.features.write_bytes(paths.features.read_bytes()[:-1])
    assert "speech.safetensors has" in (committed_fault(paths, tar, manifest) or "")
    paths.features.unlink()
    assert "speech.safetensors has 0 bytes" in (committed_fault(paths, tar, manifest) or "")


def test_every_damaged_byte_of_a_committed_file_is_found(tar: Path, tmp_path: Path) -> None:
    """Header or data, changed, cut or longer: a fault that names the file."""
    run(tar, tmp_path)
    paths = TarPaths(tmp_path, "speech")
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    refs = [
        msgspec.convert(json.loads(line)[name], FeatureRef)
        for line in paths.committed.read_bytes().splitlines()
        if b'"error"' not in line
        for name in ("envelope", "sum")
    ]
    right = paths.features.read_bytes()
    assert features_fault(paths.features, refs, manifest.features_sha256) is None
    assert "manifest" in (features_fault(paths.features, refs, "0" * 64) or "")
    damaged = [right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :] for place in range(len(right))]
    for wrong in (*damaged, right[:-1], right + b"\0", b""):
        paths.features.write_bytes(wrong)
        assert "speech.safetensors" in (features_fault(paths.features, refs, manifest.features_sha256) or "")
    paths.features.unlink()
    assert features_fault(paths.features, refs, "") == "speech.safetensors is missing"


def test_force_forgets_the_floats_too(tar: Path, tmp_path: Path) -> None:
    """--force leaves nothing of a tar's output."""
    run(tar, tmp_path)
    Ledger.erase(TarPaths(tmp_path, "speech"), FileOps())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run", "in"]


def test_no_source_has_no_floats(tmp_path: Path) -> None:
    """Lines of a partial whose floats' file is gone are made again; lines without floats need none."""
    source = FeatureSource(tmp_path / "none")
    assert source.read([]) == []
    assert source.read([FeatureRef(key="0/a", shape=(1, 1), dtype="float32", crc32=0)]) is None
    source.close()


def test_a_size_that_no_file_has_is_damage(tmp_path: Path) -> None:
    """A damaged line may claim more bytes than there is memory: nobody tries to read so many."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(16))
    source = FeatureSource(path)
    assert source.read([FeatureRef(key="0/sum", shape=(10**12, 4), dtype="float32", crc32=0)]) is None
    source.close()
    source = FeatureSource(path)
    assert source.read([FeatureRef(key="0/sum", shape=(10**30, 4), dtype="float32", crc32=0)]) is None
    source.close()


HEAD = b'{"0/sum": {"dtype": "F32", "shape": [1, 4], "data_offsets": %s}}'


@pytest.mark.parametrize(
    "header",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (10**13).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
    ids=["longer than any file", "longer than memory", "no object", "deep"],
)
def test_a_header_that_is_none_is_told(header: bytes, tmp_path: Path) -> None:
    """Exports and readers say that the run is damaged, and do not run out of memory."""
    (tmp_path / "a.safetensors").write_bytes(header)
    with pytest.raises(UsageError, match="expected a safetensors file"):
        StoredFeatures(tmp_path / "a.safetensors")


@pytest.mark.parametrize("offsets", [b"[-500, 16]", b"{}", b'["a", 1]', b"[1e99, 2]"])
def test_a_place_that_is_none_is_told(offsets: bytes, tmp_path: Path) -> None:
    """The same for a tensor's place, whatever stands there, and for a line that claims another size."""
    header = HEAD % offsets
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    stored = StoredFeatures(tmp_path / "a.safetensors")
    for rows in (1, 10**12, 10**30):
        with pytest.raises(UsageError, match="damaged or missing"):
            stored.read(FeatureRef(key="0/sum", shape=(rows, 4), dtype="float32", crc32=1))
    stored.close()
