"""jobs/taste/corpus.py and run_index.py: clips of one run or of three, by name, read from where they stand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.committed_runs import tar_of
from support.taste_runs import ALL_KEYS, SPEECH_WIDTH, Spoken, make_taste_run, some_speech
from support.tiny_speech_lm import TINY, build_speech_lm

from audio_tokenizers.errors import InfrastructureError, UsageError
from hpc.run import Run
from jobs.taste.corpus import Clip, Corpus, open_corpus
from jobs.taste.lm_files import LmFiles, open_language_model

pytestmark = pytest.mark.slow  # builds two tiny models

PARTS = (("text_tokens", "text_embedding"), ("mid", "final"), ("tokens",))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LmFiles:
    return open_language_model(build_speech_lm(tmp_path_factory.mktemp("lm") / "model"))


def is_clip(found: Clip, spoken: Spoken) -> bool:
    return (
        found.audio_file == spoken.audio_file
        and found.transcript == spoken.text
        and spoken.units is not None
        and np.array_equal(found.units, spoken.units)
        and all(np.array_equal(getattr(found, key), getattr(spoken, key)) for key in ("mid", "final"))
        and np.array_equal(found.text, spoken.text_embedding)
    )


def opened(folders: list[Path], files: LmFiles) -> Corpus:
    return open_corpus(folders, files)[0]


def test_one_run_has_everything(tmp_path: Path, files: LmFiles) -> None:
    """Each clip comes with its own text, speech, units and transcript, in any order, with true lengths."""
    tars = {"a": some_speech(4), "b": some_speech(3, seed=1)}
    corpus = opened([make_taste_run(tmp_path / "run", tars)], files)
    every = [*tars["a"], *tars["b"]]
    assert [corpus.names[0][0], corpus.names[-1][0], len(corpus)] == ["a", "b", 7]
    assert (corpus.text_width, corpus.speech_width) == (TINY.text_width, SPEECH_WIDTH)
    for number in (6, 0, 3, 4, 1, 2, 5):
        assert is_clip(corpus.read(number), every[number])
        assert corpus.texts[number] == len(every[number].text_embedding)
        units = every[number].units
        assert units is not None
        assert corpus.units[number] == len(units)
    corpus.close()


def test_three_runs_are_joined_by_names(tmp_path: Path, files: LmFiles) -> None:
    """Runs in other orders, with other clips missing, give the clips that all have; the same base name elsewhere is another
    clip. What is missing is counted run by run.
    """
    clips = some_speech(6)
    clips.append(dataclasses.replace(some_speech(1, seed=9)[0], audio_file="other/000.wav"))
    without = [dataclasses.replace(clips[1], units=None), *clips[2:], clips[0]]
    shown = {0: clips, 1: without, 2: list(reversed(clips))[1:]}
    runs = [make_taste_run(tmp_path / str(number), {"a": shown[number]}, PARTS[number]) for number in range(3)]
    corpus, left_out = open_corpus(runs, files)
    by_name = {clip.audio_file: clip for clip in clips}
    assert {audio for _, audio, _ in corpus.names} == set(by_name) - {clips[1].audio_file, "other/000.wav"} | {
        "other/000.wav"
    } - {clips[-1].audio_file}
    for number, (_, audio, _) in enumerate(corpus.names):
        assert is_clip(corpus.read(number), by_name[audio])
    corpus.close()
    assert f"{runs[1]}: 1 clips have errors instead of tokens (1 no_text)" in left_out
    assert f"{runs[0]}: 2 of its 7 clips are missing in another run" in left_out


def test_members_of_one_name_stay_apart(tmp_path: Path, files: LmFiles) -> None:
    """A tar may hold a name twice; an error of one of them counts as its place."""
    clips = [dataclasses.replace(clip, audio_file="a.wav") for clip in some_speech(4)]
    without = [clips[0], dataclasses.replace(clips[1], units=None), *clips[2:]]
    shown = [clips, without, clips]
    runs = [make_taste_run(tmp_path / str(n), {"a": shown[n]}, PARTS[n]) for n in range(3)]
    corpus = opened(runs, files)
    assert [place for _, _, place in corpus.names] == [0, 2, 3]
    assert all(is_clip(corpus.read(number), clips[place]) for number, place in enumerate((0, 2, 3)))
    corpus.close()


def test_a_tar_with_another_output_name(tmp_path: Path, files: LmFiles) -> None:
    """Runs made with and without --keep-dirs call a tar differently: it is the one at the same path."""
    clips = some_speech(2)
    runs = [make_taste_run(tmp_path / str(n), {name: clips}, PARTS[n]) for n, name in enumerate(("a", "b", "a"))]
    manifest = Run(runs[1]).paths("b").manifest
    manifest.write_text(manifest.read_text().replace(str(tar_of(runs[1], "b")), str(tar_of(runs[0], "a"))))
    corpus = opened(runs, files)
    assert [corpus.read(number).audio_file for number in range(2)] == [clip.audio_file for clip in clips]
    corpus.close()


def test_runs_over_other_tars_are_refused(tmp_path: Path, files: LmFiles) -> None:
    """A clip of the same name that is longer in one run is another recording."""
    runs = [make_taste_run(tmp_path / str(n), {"a": some_speech(3, seed=n)}, PARTS[n]) for n in range(3)]
    with pytest.raises(UsageError, match=r"0/000\.wav of a has .* s in one and .* s in the other"):
        open_corpus(runs, files)


@pytest.mark.parametrize(
    ("keys", "settings", "message"),
    [
        (("mid", "final", "tokens"), {}, "expected one run that has 'text_embedding' .cosyvoice_text makes it., found none"),
        (ALL_KEYS, {"units": 6561}, "its units number 6561, .* says 32: they are of two models"),
        (ALL_KEYS, {"text_width": 10}, "its text embedding has 10 floats per token, .* says 8"),
        (ALL_KEYS, {"samples_per_unit": 640}, "it has 25 units per second, .* is a model of 50"),
    ],
)
def test_what_does_not_fit_the_model(
    tmp_path: Path, files: LmFiles, keys: tuple[str, ...], settings: dict[str, int], message: str
) -> None:
    """A missing part, and units or texts of another model, are told before anything is trained."""
    clips = some_speech(2, text_width=settings.get("text_width", 8))
    with pytest.raises(UsageError, match=message):
        open_corpus([make_taste_run(tmp_path / "run", {"a": clips}, keys, **settings)], files)


def test_an_unfinished_run_is_refused(tmp_path: Path, files: LmFiles) -> None:
    """What is trained on does not depend on how far a run was; a folder without a run is named."""
    run = make_taste_run(tmp_path / "run", {"a": some_speech(2), "b": None})
    with pytest.raises(UsageError, match=r"1 of 2 tars not committed, the first of them b: finish the run"):
        open_corpus([run], files)
    with pytest.raises(UsageError, match="no run here"):
        open_corpus([tmp_path / "nothing"], files)


def test_clips_without_anything_to_learn_from(tmp_path: Path, files: LmFiles) -> None:
    """Where all are errors, it is said how many and of which kind."""
    clips = [dataclasses.replace(clip, units=None) for clip in some_speech(3)]
    with pytest.raises(UsageError, match=r"no clip has text, speech and units; .*3 clips have errors .*3 no_text"):
        open_corpus([make_taste_run(tmp_path / "run", {"a": clips})], files)


def test_damage_is_found(tmp_path: Path, files: LmFiles) -> None:
    """A changed line is found when the run is opened, a changed or cut tensor when it is read."""
    run = make_taste_run(tmp_path / "run", {"a": some_speech(3)})
    corpus = opened([run], files)
    tensors = run / "a.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(InfrastructureError, match=r"a\.safetensors: it has changed since the training began"):
        corpus.read(2)
    tensors.write_bytes(data[:-1])
    with pytest.raises(InfrastructureError, match=r"a\.safetensors: it has changed"):
        corpus.read(2)
    corpus.close()
    tensors.unlink()
    again = Corpus(corpus._runs, corpus._rows)
    with pytest.raises(InfrastructureError, match=r"a\.safetensors: .*No such file"):
        again.read(0)
    again.close()
    with pytest.raises(InfrastructureError, match=r"expected the floats of its \.jsonl, found nothing"):
        open_corpus([run], files)
    lines = run / "a.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"words of clip 1", b"words of clip 7"))
    tensors.write_bytes(data)
    with pytest.raises(InfrastructureError, match="its bytes are not those that were committed"):
        open_corpus([run], files)
