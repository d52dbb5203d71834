"""jobs/taste/training.py: one process trains in a folder, whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.runs import call, tree
from support.small_run import small_tar
from support.taste_runs import make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm
from support.training_campaign import tell_status

from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.claims import Claim, process_start
from jobs.predict_taste import predict_taste
from jobs.taste.checkpoint import read_checkpoint, write_checkpoint
from jobs.taste.settings import read_settings
from jobs.taste.training import Owner, Training, train
from jobs.tokenize_tar import tokenize_tar

pytestmark = pytest.mark.slow


@pytest.fixture
def training(tmp_path: Path) -> Training:
    model, data = build_speech_lm(tmp_path / "model"), make_taste_run(tmp_path / "run", {"a": some_speech(6)})
    settings = read_settings(None, {"model_path": str(model), "epochs": 1, "test_ratio": 0.2})
    return Training(settings=settings.plain(), data=(str(data),))


def claim_of_another(folder: Path, task: str) -> Path:
    """A claim of the process that started this one."""
    theirs = {"pid": os.getppid(), "started": process_start(os.getppid()), "task": task}
    path = folder / ".run" / "claims" / "training.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(Claim.of_this_process("other"), **theirs)))
    return path


def test_a_folder_in_which_another_process_trains(tmp_path: Path, training: Training) -> None:
    """A message says who; once that process is gone the folder is trained in, and the claim is given back."""
    folder = tmp_path / "out"
    claim = claim_of_another(folder, task="0001/0")
    with pytest.raises(ClaimLostError, match=rf"process {os.getppid()} on \S+ \(task 0001/0\) is working on it"):
        train(training, folder, "cpu", stop=lambda: False, environment={})
    assert not (folder / "checkpoint.pt").exists()
    claim.unlink()
    assert train(training, folder, "cpu", stop=lambda: False, environment={}, owner=Owner("0002/0"))
    assert (folder / "checkpoint.pt").exists()
    assert not claim.exists()


def test_tokens_and_trainings_have_folders_of_their_own(
    tmp_path: Path, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither is made in a folder of the other, also without hpc."""
    run = tmp_path / "run"
    before = tree(run)
    with pytest.raises(UsageError, match="run: it holds a run of tokens"):
        train(training, run, "cpu", stop=lambda: False, environment={})
    assert tree(run) == before
    tell_status(tmp_path / "trained", step=4, saved=4)
    words = ("--input-tar", small_tar(tmp_path / "a.tar"), "--backend", "mulaw", "--output-dir", tmp_path / "trained")
    assert call(tokenize_tar, *words) == 2
    assert "trained: it holds a training" in capsys.readouterr().err


def test_clips_to_test_on_come_from_where_they_came_before(
    tmp_path: Path, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which clips are trained on depends on it. The predictions of a training that was tested on another run are of that
    run's clips, and never of some that it was trained on.
    """
    other = make_taste_run(tmp_path / "other", {"b": some_speech(5, seed=1)})
    elsewhere = msgspec.structs.replace(training, test_data=(str(other),))
    for number, (first, then) in enumerate([(training, elsewhere), (elsewhere, training)]):
        folder = tmp_path / str(number)
        assert train(first, folder, "cpu", stop=lambda: False, environment={})
        with pytest.raises(UsageError, match=r"other settings \(--test-data: "):
            train(then, folder, "cpu", stop=lambda: False, environment={})
        assert train(first, folder, "cpu", stop=lambda: False, environment={})
    assert predict_taste(tmp_path / "1", [other], clips=0, device="cpu") == 0
    assert capsys.readouterr().out.count("predicted") == 5
    with pytest.raises(UsageError, match=r"--part test: none of the 6 clips is in it .*tested on other runs"):
        predict_taste(tmp_path / "1", [tmp_path / "run"], device="cpu")
    assert predict_taste(tmp_path / "1", [tmp_path / "run"], clips=0, part="train", device="cpu") == 0
    assert capsys.readouterr().out.count("predicted") == 6


def test_a_checkpoint_of_before_goes_on_with_the_clips_it_was_tested_on(tmp_path: Path, training: Training) -> None:
    """Older checkpoints do not say where these came from."""
    other = make_taste_run(tmp_path / "other", {"b": some_speech(5, seed=1)})
    for number, one in enumerate([training, msgspec.structs.replace(training, test_data=(str(other),))]):
        folder = tmp_path / str(number)
        train(one, folder, "cpu", stop=lambda: False, environment={})
        checkpoint = read_checkpoint(folder)
        assert checkpoint is not None
        write_checkpoint(folder, msgspec.structs.replace(checkpoint, corpus=checkpoint.corpus.partition(" ")[0]))
        assert train(one, folder, "cpu", stop=lambda: False, environment={})


def test_settings_of_another_version() -> None:
    """A training that was ordered with settings that this version lacks says which."""
    with pytest.raises(UsageError, match="colour"):
        Training(settings={"colour": "red"}, data=()).chosen()
