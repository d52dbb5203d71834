"""tools/joined_runs.py: clips of several runs become one where they are the same clip, and what is missing is counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.committed_runs import commit, error, make_run, record, spec_with, tar_of
from support.envelope import Envelope, envelope_spec
from support.small_run import mulaw_spec, small_tar, tokenize

from audio_tokenizers.base import Field
from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.run import Run
from jobs.damage import Damage
from jobs.features import StoredFeatures
from jobs.record_fields import FeatureRef
from jobs.records import Record
from jobs.spec import _fingerprint, freeze_spec
from tools.joined_runs import JoinedRuns, join_runs
from tools.reader import read_run

UNITS = (Field(name="units", form="list", codebook_size=10),)
TEXT = (Field(name="text_tokens", form="list", codebook_size=10),)
WORDS = (Field(name="words", form="list", codebook_size=10),)


def units(name: str, *values: int, **settings: Any) -> Record:
    return record({"units": str(list(values)).replace(" ", "").encode()}, audio_file=name, **settings)


def text(name: str, *values: int, **settings: Any) -> Record:
    return record({"text_tokens": str(list(values)).replace(" ", "").encode()}, audio_file=name, **settings)


def two_runs(folder: Path, ours: Sequence[Record], others: Sequence[Record]) -> tuple[Path, Path]:
    """Of one tar: units and texts."""
    make_run(folder / "units", {"1": ours}, UNITS)
    make_run(folder / "text", {"1": others}, TEXT)
    return folder / "units", folder / "text"


def found(runs: JoinedRuns) -> list[tuple[str, dict[str, list[int]]]]:
    return [(clip.audio_file, {key: array.tolist() for key, array in clip.arrays.items()}) for clip in runs]


class TestRealRuns:
    """Made by two backends from the same tars."""

    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[Path, Path]:
        tars = [small_tar(tmp_path / f"{number}.tar") for number in range(2)]
        for name, spec, backend in (("codes", mulaw_spec(), None), ("floats", envelope_spec(), Envelope())):
            freeze_spec(tmp_path / name, spec)
            Run(tmp_path / name).add_to_list([str(tar) for tar in tars], keep_dirs=False)
            for tar in tars:
                tokenize(tar, tmp_path / name, spec=spec, backend=backend)
        return tmp_path / "codes", tmp_path / "floats"

    def test_the_arrays_of_each(self, runs: tuple[Path, Path]) -> None:
        """In the order of the first run, each as its own run has it; keys of one name have their backend's before it."""
        joined = join_runs(*runs)
        clips = list(joined)
        assert (joined.counts.joined, joined.counts.missing) == (8, {str(run): 0 for run in runs})
        for clip, ours, others in zip(clips, *map(read_run, runs), strict=True):
            assert (clip.tar_file, clip.audio_file, clip.text) == (ours.tar_file, ours.audio_file, ours.text)
            assert (clip.num_samples, clip.sample_rate) == (ours.num_samples, 8000)
            assert list(clip.arrays) == ["mulaw_tokens", "envelope_tokens", "levels", "envelope", "sum"]
            assert np.array_equal(clip.arrays["mulaw_tokens"], ours.tokens)
            assert np.array_equal(clip.arrays["envelope_tokens"], others.tokens)
            for key in ("levels", "envelope", "sum"):
                assert np.array_equal(clip.arrays[key], others.arrays[key])
                assert clip.arrays[key].dtype == others.arrays[key].dtype

    def test_memory_is_that_of_a_clip(self, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Floats are read when their clip is due, and only those of the wanted part."""
        read: list[str] = []
        original = StoredFeatures.read

        def watched(self: StoredFeatures, ref: FeatureRef) -> Any:
            read.append(ref.key)
            return original(self, ref)

        monkeypatch.setattr(StoredFeatures, "read", watched)
        clips = iter(join_runs(*runs, part=1, parts=2))
        assert next(clips).audio_file == "001.wav"
        assert read == ["1/envelope", "1/sum"]

    def test_a_file_that_was_changed(self, runs: tuple[Path, Path]) -> None:
        """The joined runs are checked against their hashes, as each of them is."""
        path = runs[0] / "0.jsonl"
        path.write_bytes(path.read_bytes().replace(b'.tar"', b'.tat"', 1))
        with pytest.raises(InfrastructureError, match=r"0\.jsonl: its bytes are not those that were committed"):
            list(join_runs(*runs))


def test_what_is_missing_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Errors, and tars that one run has not: counted by run, told once, and no clip of it in the data. Units of number 0 are
    units, and lengths are those of the records.
    """
    whole = [units("a.wav", 0, 0, 7), units("b.wav", 0), units("c.wav", 1, 2)]
    make_run(tmp_path / "units", {"1": whole, "2": [units("x.wav", 3)]}, UNITS)
    make_run(tmp_path / "text", {"1": [text("a.wav", 5), error("no_text", audio_file="b.wav"), text("c.wav", 6, 7)]}, TEXT)
    thirds = {"3": [record({"words": b"[1]"}, audio_file=name) for name in ("y.wav", "z.wav")]}
    make_run(
        tmp_path / "words",
        {"1": [record({"words": b"[9]"}, audio_file="a.wav"), error(audio_file="c.wav")], **thirds},
        WORDS,
    )
    names = [str(tmp_path / name) for name in ("units", "text", "words")]
    runs = join_runs(*names)
    with caplog.at_level(logging.WARNING):
        assert found(runs) == [("a.wav", {"units": [0, 0, 7], "text_tokens": [5], "words": [9]})]
    assert runs.counts.joined == 1
    assert runs.counts.missing == dict(zip(names, (2, 4, 3), strict=True))
    assert runs.counts.missing_tars == dict(zip(names, (1, 2, 1), strict=True))
    assert f"{names[1]} lacks 4 clips that others have, in part because it lacks 2 tars" in caplog.text
    assert len(found(runs)) == runs.counts.joined == 1  # each pass counts anew


def test_names_alone_do_not_join(tmp_path: Path) -> None:
    """The same base name in another folder of the tar is another clip, and of members of one name each is its own."""
    ours = [units("a/1.wav", 1), units("b/1.wav", 2), units("d.wav", 3), units("d.wav", 4)]
    others = [text("b/1.wav", 2), text("c/1.wav", 9), error(audio_file="d.wav"), text("d.wav", 4)]
    assert found(join_runs(*two_runs(tmp_path, ours, others))) == [
        ("b/1.wav", {"units": [2], "text_tokens": [2]}),
        ("d.wav", {"units": [4], "text_tokens": [4]}),
    ]


def test_tars_of_one_name(tmp_path: Path) -> None:
    """A tar that has moved is the same; one of another size is not, and is named with both runs."""
    runs = two_runs(tmp_path, [units("a.wav", 1)], [text("a.wav", 2)])
    assert tar_of(runs[0], "1") != tar_of(runs[1], "1")
    assert len(found(join_runs(*runs))) == 1
    tar_of(runs[1], "1").write_bytes(b"another tar")
    commit(runs[1], "1", [text("a.wav", 2)], spec_with(TEXT))
    with pytest.raises(
        UsageError, match=r"1: .*units is of a tar of 5 bytes, .*text of one of 11: expected runs over the same"
    ):
        list(join_runs(*runs))


def test_damaged_clips_can_be_left_out(tmp_path: Path) -> None:
    """Wherever the damage was noted."""
    lost = Damage(0.72, "its end")
    ours = [units("a.wav", 1), units("b.wav", 2)]
    runs = two_runs(tmp_path, ours, [text("a.wav", 1, damage=lost, text="hello"), text("b.wav", 2)])
    (first, _) = join_runs(*runs)
    assert (first.damage, first.text) == (lost, "hello")
    whole = join_runs(*runs, damaged=False)
    assert [clip.audio_file for clip in whole] == ["b.wav"]
    assert (whole.counts.joined, whole.counts.damaged) == (1, 1)


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_parts_give_each_clip_once(tmp_path: Path, parts: int) -> None:
    """Over all parts every joined clip comes once, and all parts count alike."""
    names = [f"{number}.wav" for number in range(7)]
    runs = two_runs(tmp_path, [units(name, 1) for name in names], [text(name, 1) for name in names[1:]])
    shares = [join_runs(*runs, part=part, parts=parts) for part in range(parts)]
    assert sorted(clip.audio_file for share in shares for clip in share) == names[1:]
    assert {share.counts.joined for share in shares} == {6}
    halves = [list(share.clips(part=half, parts=2)) for share in shares for half in range(2)]  # a share can be shared again
    assert sorted(clip.audio_file for half in halves for clip in half) == names[1:]


def test_keys_of_two_presets_of_one_backend(tmp_path: Path) -> None:
    """Runs of mimi and dac, both codecs of `hf`, keep their tokens apart by those names."""
    for codec in ("mimi", "dac"):
        spec = msgspec.structs.replace(mulaw_spec(), backend="hf", recipe={"codec": codec})
        spec = msgspec.structs.replace(spec, fingerprint=_fingerprint(spec))
        output = tmp_path / codec
        freeze_spec(output, spec)
        tar_of(output, "1").parent.mkdir()
        tar_of(output, "1").write_bytes(b"a tar")
        Run(output).add_to_list([str(tar_of(output, "1"))], keep_dirs=False)
        commit(output, "1", [record(audio_file="a.wav")], spec)
    (clip,) = join_runs(tmp_path / "mimi", tmp_path / "dac")
    assert list(clip.arrays) == ["mimi_tokens", "dac_tokens"]


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    """One run, no run, two that give the same key, a part that there is not, and a run that is not finished."""
    units_run, text_run = two_runs(tmp_path, [units("a.wav", 1)], [text("a.wav", 1)])
    with pytest.raises(UsageError, match="expected two runs or more, found 1: read_run reads one"):
        join_runs(units_run)
    with pytest.raises(UsageError, match="no run here"):
        join_runs(units_run, tmp_path)
    with pytest.raises(UsageError, match=r"units and .*units both give 'mulaw_units': join runs of different backends"):
        join_runs(units_run, units_run)
    with pytest.raises(UsageError, match="part 2 of 2"):
        join_runs(units_run, text_run, part=2, parts=2)
    make_run(tmp_path / "half", {"1": [record({"words": b"[1]"}, audio_file="a.wav")], "2": None}, WORDS)
    with pytest.raises(UsageError, match="1 of 2 tars not committed"):
        list(join_runs(units_run, tmp_path / "half"))
    assert len(list(join_runs(units_run, tmp_path / "half", partial_ok=True))) == 1


def test_clips_in_another_order(tmp_path: Path) -> None:
    """No two runs over one tar have that: a file was put together by hand."""
    ours = [units("a.wav", 1), units("b.wav", 2)]
    runs = two_runs(tmp_path, ours, [text("b.wav", 2), text("a.wav", 1)])
    with pytest.raises(
        InfrastructureError, match=r"has a\.wav where .* has b\.wav: expected the clips of one tar in one order"
    ):
        list(join_runs(*runs))
