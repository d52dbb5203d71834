"""tools/reader.py: what is read back are the very arrays that were written, each clip once, however the work is split."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backports.zstd import compress
from support.committed_runs import damaged_records, lines_of, record
from support.committed_runs import make_run as committed_run
from support.envelope import Envelope, envelope, envelope_spec
from support.small_run import mulaw_spec, small_tar, tokenize

from audio_tokenizers.base import Features, Field
from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.run import Run
from jobs.damage import Damage
from jobs.features import StoredFeatures
from jobs.record_fields import FeatureRef
from jobs.records import encode_record
from jobs.spec import TokenizeSpec, freeze_spec
from tools import reader
from tools.reader import TokenizedClip, read_run, to_torch

TARS = 3


def make_run(folder: Path, spec: TokenizeSpec, backend: Callable[[], object] | None = None) -> Path:
    """A run of TARS tars of five clips, one of which is no audio."""
    output = folder / "tokens"
    tars = [small_tar(folder / f"{number}.tar") for number in range(TARS)]
    freeze_spec(output, spec)
    Run(output).add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars:
        tokenize(tar, output, spec=spec, backend=backend and backend())
    return output


@pytest.fixture(scope="module")
def codec_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one grid of codes."""
    return make_run(tmp_path_factory.mktemp("codec"), mulaw_spec())


@pytest.fixture(scope="module")
def features_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a string, a list and floats."""
    return make_run(tmp_path_factory.mktemp("features"), envelope_spec(), Envelope)


def merged(run: Path) -> bytes:
    """All lines of a run."""
    return b"".join((run / f"{number}.jsonl").read_bytes() for number in range(TARS))


def names(clips: list[TokenizedClip]) -> list[tuple[str, str]]:
    return [(Path(clip.tar_file).name, clip.audio_file) for clip in clips]


def expected_names() -> list[tuple[str, str]]:
    return [(f"{tar}.tar", f"{clip:03}.wav") for tar in range(TARS) for clip in (0, 1, 3, 4)]


@pytest.mark.slow
def test_what_records_note(tmp_path: Path) -> None:
    """A clip has what its record notes, so that whoever trains can leave it out."""
    lines = [encode_record(record(notes=notes)) + b"\n" for notes in ((), ("opposite_phase",))]
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines))
    clips = list(read_run(tmp_path / "all.jsonl"))
    assert [clip.notes for clip in clips] == [(), ("opposite_phase",)]
    assert [to_torch(clip)["notes"] for clip in clips] == ["", "opposite_phase"]  # of one type, or torch collates none


def test_records_of_a_codec(codec_run: Path) -> None:
    """Clips come with their tokens as int64 [codebooks, frames], text and duration; one without tokens is passed over."""
    clips = list(read_run(codec_run))
    assert names(clips) == expected_names()
    lines = [json.loads(line) for line in merged(codec_run).splitlines()]
    for clip, line in zip(clips, [line for line in lines if "error" not in line], strict=True):
        assert clip.tokens.dtype == np.int64
        assert clip.tokens.tolist() == line["tokens"]
        assert (clip.num_samples, clip.sample_rate, clip.text) == (line["num_samples"], 8000, line["text"])
        assert clip.seconds == line["num_samples"] / 8000


@pytest.mark.parametrize("batch_bytes", [1, 300, 1 << 20])
def test_records_of_several_keys(features_run: Path, batch_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings, lists and floats are the arrays that the backend gave, in whatever batches they are read."""
    monkeypatch.setattr(reader, "BATCH_BYTES", batch_bytes)
    clips = list(read_run(features_run))
    assert names(clips) == expected_names()
    from io import BytesIO

    import soundfile
    from support.small_run import wav

    for clip in clips[:4]:
        number = int(clip.audio_file[:3])
        wave, _ = soundfile.read(BytesIO(wav(40 + number, seed=number)), dtype="float32")
        wanted = envelope(wave.astype(np.float64))
        assert list(clip.arrays) == list(wanted)
        for key, array in wanted.items():
            assert np.array_equal(clip.arrays[key], array), key
        assert clip.arrays["envelope"].dtype == np.float16


def test_floats_are_read_when_their_clip_is_due(features_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are read many at a time, but those of an hour of audio have gigabytes of floats."""
    read: list[str] = []
    original = StoredFeatures.read

    def noting(self: StoredFeatures, ref: FeatureRef) -> Features:
        read.append(ref.key)
        return original(self, ref)

    monkeypatch.setattr(StoredFeatures, "read", noting)
    clips = read_run(features_run)
    next(clips)
    assert read == ["0/envelope", "0/sum"]
    next(clips)
    assert read[2:] == ["1/envelope", "1/sum"]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("form", ["run", "jsonl", "jsonl.gz", "jsonl.zst"])
def test_parts_give_each_clip_once(codec_run: Path, tmp_path: Path, form: str, parts: int) -> None:
    """Over all parts each clip comes exactly once, of a run, of a plain merged file and of compressed ones; in order."""
    source = codec_run
    if form != "run":
        source = tmp_path / f"all.{form}"
        data = merged(codec_run)
        members = {
            "jsonl": data,
            "jsonl.gz": gzip.compress(data[:500]) + gzip.compress(data[500:]),
            "jsonl.zst": compress(data),
        }
        source.write_bytes(members[form])
    shares = [names(list(read_run(source, part=part, parts=parts))) for part in range(parts)]
    assert sorted(name for share in shares for name in share) == expected_names()
    assert all(share == sorted(share) for share in shares)


def test_tensors(features_run: Path) -> None:
    """A clip as torch wants it: tensors of the arrays' own types, and everything else beside them."""
    import torch

    found = to_torch(next(read_run(features_run)))
    assert {key: value.dtype for key, value in found.items() if isinstance(value, torch.Tensor)} == {
        "tokens": torch.int64,
        "levels": torch.int64,
        "envelope": torch.float16,
        "sum": torch.float32,
    }
    assert (found["audio_file"], found["text"], found["metadata"]) == ("000.wav", "clip 0, é 語", None)


class TestRefused:
    def test_neither_a_run_nor_a_file(self, tmp_path: Path) -> None:
        """What is not there is named, and what is something else too."""
        with pytest.raises(UsageError, match="found neither"):
            next(read_run(tmp_path / "nowhere"))
        with pytest.raises(UsageError, match="no run here"):
            next(read_run(tmp_path))
        (tmp_path / "x.txt").touch()
        with pytest.raises(UsageError, match=r"expected a \.jsonl"):
            next(read_run(tmp_path / "x.txt"))
        with pytest.raises(UsageError, match="part 2 of 2"):
            next(read_run(tmp_path, part=2, parts=2))

    @pytest.mark.parametrize("line", [b'{"text":"x","semantic_tokens":[1]}\n', b'{"a":'])
    def test_lines_of_another_shape(self, tmp_path: Path, line: bytes) -> None:
        """A file of lines that are no records says so at once."""
        (tmp_path / "x.jsonl").write_bytes(line)
        with pytest.raises(UsageError, match=r"x\.jsonl: expected records"):
            next(read_run(tmp_path / "x.jsonl"))

    @pytest.mark.parametrize("suffix", ["gz", "zst"])
    def test_a_merged_file_that_is_cut(self, codec_run: Path, tmp_path: Path, suffix: str) -> None:
        """A copy that ended early is an error, not a shorter data set."""
        data = gzip.compress(merged(codec_run)) if suffix == "gz" else compress(merged(codec_run))
        path = tmp_path / f"x.jsonl.{suffix}"
        path.write_bytes(data[:-20])
        with pytest.raises(InfrastructureError, match="cut or damaged"):
            list(read_run(path))

    def test_floats_of_a_merged_file(self, features_run: Path, tmp_path: Path) -> None:
        """Lines that speak of floats elsewhere are refused where nobody knows where that is."""
        (tmp_path / "x.jsonl").write_bytes(merged(features_run))
        with pytest.raises(UsageError, match="read the run directory instead"):
            next(read_run(tmp_path / "x.jsonl"))

    def test_floats_that_are_damaged(self, tmp_path: Path) -> None:
        """Floats are checked against the checksum in their line."""
        run = make_run(tmp_path, envelope_spec(), Envelope)
        path = run / "1.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"1\.safetensors: the tensor 4/sum is damaged"):
            list(read_run(run))
        path.write_bytes(b"junk")
        with pytest.raises(UsageError, match="1 of 3 tars not committed"):
            list(read_run(run))


def test_damaged_clips(tmp_path: Path) -> None:
    """They say what they lack, and can be left out: of a run, of a share of it, of a merged file."""
    records = {name: damaged_records(number) for number, name in enumerate("ab")}
    committed_run(tmp_path / "run", records, (Field(name="tokens", form="codes", width=2, codebook_size=1024),))
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines_of(each) for each in records.values()))
    lost = [None, None, None, 0.72, 0.012]
    for source in (tmp_path / "run", tmp_path / "all.jsonl"):
        assert [clip.damage and clip.damage.seconds for clip in read_run(source)] == lost * 2
        assert [clip.audio_file for clip in read_run(source, damaged=False)] == ["0.wav", "1.wav", "2.wav"] * 2
        shares = [clip.audio_file for part in range(3) for clip in read_run(source, damaged=False, part=part, parts=3)]
        assert sorted(shares) == sorted(["0.wav", "1.wav", "2.wav"] * 2)
    *_, damaged, _ = read_run(tmp_path / "run", part=1, parts=2)
    assert damaged.damage == Damage(0.72, "frames that cannot be decoded")
    found = to_torch(damaged)
    assert (found["damage_seconds"], found["damage"]) == (0.72, "frames that cannot be decoded")
    whole = to_torch(next(read_run(tmp_path / "run")))
    assert (whole["damage_seconds"], whole["damage"]) == (0.0, "")
