"""jobs/token_counter.py: the same statistics from arrays, from lines, and however often a tar was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.crashing import CrashingOps, SimulatedCrash
from support.envelope import Envelope, envelope_spec
from support.small_run import mulaw_spec, small_tar, stopping_after, tokenize, wav, write_tar

from audio_tokenizers.base import Codes, Features, Field
from audio_tokenizers.step_audio.files import CLUSTERS, VQ06_CODES
from jobs import token_counter, token_sink
from jobs.record_fields import to_json
from jobs.records import ErrorRecord, TokenRecord
from jobs.tar_paths import TarPaths
from jobs.token_counter import VQ02_IDS, VQ06_IDS, TokenCounter, count_file, streams_of
from jobs.token_statistics import TokenStatistics, read_statistics

CODES = Field(name="tokens", form="codes", width=2, codebook_size=100, samples_per_item=10)
TEXT = Field(name="text_tokens", form="list", codebook_size=1000)
STRING = Field(name="tokens", form="audio_string", codebook_size=5120, samples_per_item=384)


def record(
    name: str, fields: Sequence[Field], arrays: Mapping[str, Codes | Features], text: str | None = None
) -> TokenRecord:
    """A clip of a second."""
    json, _ = to_json(fields, arrays, 0)
    values = {key: msgspec.Raw(value) for key, value in json.items()}
    return TokenRecord(tar_file="/t.tar", audio_file=name, num_samples=100, sample_rate=100, values=values, text=text)


def manifest_of(output: Path) -> TokenStatistics:
    """What the tar's manifest says."""
    found = read_statistics(TarPaths(output, "speech").manifest)
    assert found is not None
    return found


def test_lines_and_arrays_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any mixture: a resumed tar has lines first and arrays then."""
    monkeypatch.setattr(token_counter, "TEXT_BYTES", 100)
    chance = np.random.default_rng(0)
    fields = (CODES, TEXT)
    clips = [
        {"tokens": chance.integers(0, 100, (2, 10)), "text_tokens": chance.integers(0, 1000, length)}
        for length in (1, 2, 30, 4, 5, 6, 7)
    ]
    found = []
    for lines in range(len(clips) + 1):
        counter = TokenCounter(fields)
        for number, arrays in enumerate(clips):
            one = record(f"{number}.wav", fields, arrays, "a b" if number % 2 else None)
            counter.add(one, None if number < lines else lambda arrays=arrays: arrays)  # type: ignore[misc]
        counter.add(ErrorRecord(tar_file="/t.tar", audio_file="bad.wav", error="cut", error_kind="decode"))
        found.append(counter.statistics())
    assert found == [found[0]] * len(found)
    assert (found[0].clips, found[0].audio_seconds) == (7, 7.0)
    assert (found[0].text_clips, found[0].text_characters, found[0].text_seconds) == (3, 9, 3.0)
    assert found[0].sequences["tokens"].items_per_second == 10.0
    assert found[0].sequences["text_tokens"].items_per_second is None
    assert found[0].sequences["text_tokens"].items == 55


def test_clips_are_numbered_as_their_lines_are() -> None:
    """Lines of errors count: the number finds the line in the file."""
    counter = TokenCounter((CODES,))
    counter.add(ErrorRecord(tar_file="/t.tar", audio_file="bad.wav", error="cut", error_kind="decode"))
    counter.add(record("still.wav", (CODES,), {"tokens": np.zeros((2, 10), np.int64)}))
    longest = counter.statistics().sequences["tokens"].codebooks[0].longest
    assert longest is not None
    assert (longest.items, longest.token, longest.clip, longest.name) == (10, 0, 1, "still.wav")


def test_the_two_streams_of_step_audios_string_are_counted_apart() -> None:
    """Interleaved, no token would ever repeat; the numbers of their ids are those of the backend."""
    assert (VQ02_IDS, VQ06_IDS) == (CLUSTERS, VQ06_CODES)
    counter = TokenCounter((STRING,))
    counter.add(record("a.wav", (STRING,), {"tokens": np.array([7, 7, 1024, 1025, 1025] * 2)}))
    found = counter.statistics().sequences
    assert list(found) == ["tokens/vq02", "tokens/vq06"]
    vq02, vq06 = found["tokens/vq02"], found["tokens/vq06"]
    assert (vq02.items, vq02.codebooks[0].used, vq02.codebooks[0].repeated) == (4, 1, 3)
    assert (vq06.items, vq06.lowest, vq06.size, vq06.codebooks[0].used, vq06.codebooks[0].repeated) == (6, 1024, 4096, 2, 2)
    assert (vq02.items_per_second, vq06.items_per_second) == (0.104167, 0.15625)


def test_of_single_samples_enough_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """mu-law has 8000 codes per second: after a while one clip in 32 does, and the same ones from arrays and from lines."""
    monkeypatch.setattr(token_counter, "ENOUGH", 300)
    field = Field(name="tokens", form="codes", codebook_size=256, samples_per_item=0.01)
    slow = Field(name="slow", form="codes", codebook_size=256, samples_per_item=1)
    arrays = {"tokens": np.full((1, 100), 7), "slow": np.full((1, 100), 7)}
    found = []
    for lines in (0, 7, 40):
        counter = TokenCounter((field, slow))
        for number in range(40):
            counter.add(record(f"{number}.wav", (field, slow), arrays), None if number < lines else lambda: arrays)
        found.append(counter.statistics())
    assert found == [found[0]] * 3
    assert (found[0].clips, found[0].sequences["slow"].clips) == (40, 40)
    assert (found[0].sequences["tokens"].clips, found[0].sequences["tokens"].items) == (4, 400)  # 0, 1, 2, 32


def test_floats_are_not_counted() -> None:
    """whisper_features has no tokens: clips and texts are counted all the same."""
    floats = Field(name="mid", form="features", width=2, dtype="float16")
    assert streams_of(floats) == ()
    counter = TokenCounter((floats,))
    counter.add(record("a.wav", (floats,), {"mid": np.zeros((3, 2), np.float16)}, "text"))
    found = counter.statistics()
    assert (found.clips, found.text_characters, found.sequences) == (1, 4, {})


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tar(tmp_path_factory.mktemp("in") / "speech.tar")


def test_a_manifest_has_the_statistics_of_its_file(tar: Path, tmp_path: Path) -> None:
    """Those that its lines give when they are read again."""
    tokenize(tar, tmp_path)
    found = manifest_of(tmp_path)
    assert found == count_file(tmp_path / "speech.jsonl", mulaw_spec().fields)
    assert (found.clips, found.text_clips) == (4, 4)
    assert found.sequences["tokens"].items == 40 + 41 + 43 + 44
    assert found.sequences["tokens"].histograms().sum() == found.sequences["tokens"].items


@pytest.mark.slow
def test_interruptions_change_no_statistics(tar: Path, tmp_path: Path) -> None:
    """Stopped at every line, or killed at some operation, and gone on with by another worker."""
    tokenize(tar, tmp_path / "whole")
    whole = manifest_of(tmp_path / "whole")
    for lines in range(1, 5):
        output = tmp_path / f"stopped {lines}"
        assert tokenize(tar, output, **stopping_after(lines)).outcome == "yielded"
        tokenize(tar, output)
        assert manifest_of(output) == whole
    counting = CrashingOps()
    tokenize(tar, tmp_path / "count", counting)
    for crash_at in range(0, counting.count, 7):
        output = tmp_path / f"killed {crash_at}"
        with pytest.raises(SimulatedCrash):
            tokenize(tar, output, CrashingOps(crash_at))
        if not (output / "speech.jsonl").exists():
            tokenize(tar, output)
        assert manifest_of(output) == whole


def test_retried_errors_leave_the_statistics_of_one_go(tar: Path, tmp_path: Path) -> None:
    """Lines that are kept count as those that are made."""
    tokenize(tar, tmp_path)
    whole = manifest_of(tmp_path)
    result = tokenize(tar, tmp_path, retry_errors=True)
    assert manifest_of(tmp_path) == whole
    assert [maker.clips for maker in result.manifest.made_by] == [1]  # the clip that was tried again


def test_codes_that_left_the_memory_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long clip in fragments, whose codes go through files, counts as one that fits into the memory."""
    tar = write_tar(tmp_path / "in" / "speech.tar", {"a.wav": wav(30), "b.wav": wav(530, seed=1), "c.wav": wav(30, seed=2)})
    spec = mulaw_spec(max_tokens_per_fragment=100, num_tokens_overlap=10)
    tokenize(tar, tmp_path / "memory", spec=spec)
    monkeypatch.setattr(token_sink, "TOKENS_IN_MEMORY", 150)
    monkeypatch.setattr(token_sink.TokenSink.__init__, "__defaults__", (150,))
    tokenize(tar, tmp_path / "files", spec=spec)
    assert manifest_of(tmp_path / "files") == manifest_of(tmp_path / "memory")
    assert manifest_of(tmp_path / "files").sequences["tokens"].items == 590


def test_whole_clips_of_several_keys(tar: Path, tmp_path: Path) -> None:
    """A backend of whole clips: each key of integers has its statistics, floats have none."""
    spec = envelope_spec()
    tokenize(tar, tmp_path / "whole", spec=spec, backend=Envelope())
    whole = manifest_of(tmp_path / "whole")
    assert list(whole.sequences) == ["tokens", "levels"]
    assert whole.sequences["levels"].items == 4 * 3
    assert whole == count_file(tmp_path / "whole" / "speech.jsonl", spec.fields)
    tokenize(tar, tmp_path / "out", spec=spec, backend=Envelope(), **stopping_after(2))
    tokenize(tar, tmp_path / "out", spec=spec, backend=Envelope())
    assert manifest_of(tmp_path / "out") == whole


def test_makers_of_an_interrupted_tar_are_told(tar: Path, tmp_path: Path) -> None:
    """Here one device in two attempts, which is one maker of all lines."""
    tokenize(tar, tmp_path, **stopping_after(3))
    result = tokenize(tar, tmp_path)
    assert [(maker.device, maker.gpu, maker.clips) for maker in result.manifest.made_by] == [("cpu", "", 5)]


def test_lines_of_another_run_are_an_error(tmp_path: Path) -> None:
    """A file that does not fit its fields raises, and is never counted wrongly."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"tar_file":"t"}\n')
    with pytest.raises(msgspec.DecodeError):
        count_file(path, (CODES,))
    with pytest.raises(FileNotFoundError):
        count_file(tmp_path / "b.jsonl", (CODES,))
