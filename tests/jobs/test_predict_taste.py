"""jobs/predict_taste.py: real against predicted units, printed and written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.taste_runs import make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm

from audio_tokenizers.errors import UsageError
from jobs.predict_taste import predict_taste
from jobs.train_taste import train_taste

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untouched_log")]
SPEECH = some_speech(8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training that has learned its eight clips by heart, and their run."""
    folder = tmp_path_factory.mktemp("trained")
    run = make_taste_run(folder / "run", {"a": SPEECH})
    config = folder / "taste.yaml"
    config.write_text("freeze: [stack]\nepochs: 40\nlearning_rate: 0.02\nbatch_size: 1\ntest_ratio: 0\n")
    model = build_speech_lm(folder / "model")
    assert train_taste([run], folder / "out", config, model_path=str(model), device="cpu") == 0
    return folder / "out", run


def test_what_was_learned_is_spoken(trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips learned by heart come back unit by unit; all units are in the file, the first ten on the screen."""
    output = tmp_path / "predicted.jsonl"
    assert predict_taste(trained[0], [trained[1]], output, clips=0, part="all", device="cpu") == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["audio_file"] for line in lines] == [clip.audio_file for clip in SPEECH]
    for line, clip in zip(lines, SPEECH, strict=True):
        assert clip.units is not None
        assert (line["units"], line["text"]) == (clip.units.tolist(), clip.text)
    exact = sum(line["predicted"] == line["units"] for line in lines)
    assert exact >= 6
    assert all((line["agreement"] == 1) == (line["predicted"] == line["units"]) for line in lines)
    said = capsys.readouterr().out
    assert re.search(
        r"0/000\.wav \(words of clip 0\)\n  real      \d+ .*\(\d+\)\n  predicted .*\n  agreement [01]\.\d{3}\n", said
    )


def test_what_cannot_be_predicted(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """A folder without a training, a part without clips, and another language model are named."""
    out, run = trained
    with pytest.raises(UsageError, match=r"expected a folder with checkpoint\.pt"):
        predict_taste(tmp_path, [run], device="cpu")
    with pytest.raises(UsageError, match="--part test: none of the 8 clips"):
        predict_taste(out, [run], device="cpu")
    other = build_speech_lm(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"llm\.pt: the training had another one"):
        predict_taste(out, [run], model_path=str(other), part="all", device="cpu")
