"""jobs/taste/training.py: one process trains in a folder, whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support.taste_runs import make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm

from audio_tokenizers.errors import ClaimLostError, UsageError
from jobs.claims import Claim, process_start
from jobs.taste.settings import read_settings
from jobs.taste.training import Owner, Training, train

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


def test_settings_of_another_version() -> None:
    """A training that was ordered with settings that this version lacks says which."""
    with pytest.raises(UsageError, match="colour"):
        Training(settings={"colour": "red"}, data=()).chosen()
