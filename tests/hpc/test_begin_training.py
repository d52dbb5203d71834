"""hpc/begin_training.py: hpc.submit --train: what is refused before anything is written, and trainings from end to end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from support.local_runs import submissions, task_pids
from support.runs import call, start, wait_for
from support.small_run import small_tar
from support.taste_runs import make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm
from support.training_campaign import tell_status

from hpc.begin_training import TrainOptions, refuse_others
from hpc.run import Run, RunState
from hpc.submit import submit
from jobs.taste.checkpoint import read_checkpoint
from jobs.taste.settings import read_settings
from jobs.taste.status import Status, read_status
from jobs.taste.training import Training, train
from tools.check_progress import check_progress
from tools.failures import failures

SETTINGS = (
    "model_path: {model}\nepochs: {epochs}\ntest_ratio: 0.2\nlearning_rate: 0.003\nbatch_size: 5\ncheckpoint_steps: 2\n"
)
LOCAL = ("--cluster", "local", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_speech_lm(tmp_path_factory.mktemp("taste") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_taste_run(tmp_path_factory.mktemp("taste") / "run", {"a": some_speech(23)})


@pytest.fixture(autouse=True)
def no_site(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster.yaml of this machine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "config"))


@pytest.fixture
def config(here: Path, model: Path) -> Path:
    path = here / "taste.yaml"
    path.write_text(SETTINGS.format(model=model, epochs=3))
    return path


class TestRefusals:
    """Each has one message, and leaves no folder behind."""

    def refused(self, capsys: pytest.CaptureFixture[str], *words: object) -> str:
        """The one message of a command that is refused."""
        assert call(submit, *words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
        return said.err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--train", "none.yaml"], "error: none.yaml: expected a YAML file with settings, found none there"),
            (["--backend", "mulaw", "--list", "x", "--train", "taste.yaml"], "--list, --backend: for tokens only"),
            (["--retry-errors", "--train", "taste.yaml"], "--retry-errors: for tokens only"),
            (["--backend", "mulaw", "--list", "x"], "--data: for trainings only"),
            (["--train", "taste.yaml", "--model-path", "nowhere"], "nowhere"),
            (["--train", "taste.yaml", "--procs-per-gpu", "2"], "a training has one process per GPU"),
            (["--train", "taste.yaml", "--data", "nowhere"], "nowhere: no run here: expected its .run/spec.yaml"),
        ],
    )
    @pytest.mark.usefixtures("config")
    def test_options(self, capsys: pytest.CaptureFixture[str], data: Path, words: list[str], message: str) -> None:
        """Options that do not belong together, files that are missing, data that is no run."""
        assert message in self.refused(capsys, "--data", data, *words)
        assert not Path("tokens").exists()

    def test_without_data(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """A training without --data is told what data it needs."""
        assert "--data: expected a finished run" in self.refused(capsys, "--train", config)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("learning_rat: 0.1", "'learning_rat' is no setting of a training: did you mean 'learning_rate'?"),
            ("epochs: none", "Expected `int`, got `str` - at `$.epochs`"),
            ("[", "expected YAML"),
        ],
    )
    def test_settings(self, capsys: pytest.CaptureFixture[str], config: Path, data: Path, line: str, message: str) -> None:
        """Keys that are misspelt, and values of another kind."""
        config.write_text(config.read_text().replace("epochs: 3", line) if "epochs" in line else f"{line}\n")
        said = self.refused(capsys, "--train", config, "--data", data)
        assert message in said
        assert str(config) in said

    def test_a_macs_gpu(
        self, capsys: pytest.CaptureFixture[str], here: Path, config: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It trains nothing, so no job is begun that would find no GPU."""
        monkeypatch.setattr("jobs.devices.sys.platform", "darwin")
        words = ("--train", config, "--data", data, "--cluster", "local", "--device", "mps")
        assert "--device 'mps': a training runs on cpu or cuda" in self.refused(capsys, *words)
        assert not (here / "tokens").exists()

    def test_an_unfinished_run(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
        """Data that is still being made, before any job waits for a GPU in vain."""
        run = make_taste_run(tmp_path / "run", {"a": some_speech(3), "b": None})
        assert "1 of 2 tars not committed, the first of them b" in self.refused(capsys, "--train", config, "--data", run)

    def test_a_run_without_speech(self, capsys: pytest.CaptureFixture[str], here: Path, config: Path) -> None:
        """A run of units alone is not enough to train on."""
        run = make_taste_run(here / "units", {"a": some_speech(3)}, ["tokens"])
        message = self.refused(capsys, "--train", config, "--data", run)
        assert "expected one run that has 'text_embedding'" in message

    def test_folders_of_something_else(
        self, capsys: pytest.CaptureFixture[str], here: Path, config: Path, data: Path
    ) -> None:
        """A folder of tokens is not trained in, nor the other way round, nor is a training continued as another."""
        message = self.refused(capsys, "--train", config, "--data", data, "--output-dir", data)
        assert "it holds a run of tokens" in message
        tell_status(here / "trained", step=4, saved=4)
        message = self.refused(capsys, "--train", config, "--data", data, "--output-dir", here / "trained")
        assert "it holds a training with other settings (" in message
        assert "learning_rate: 0.003, and 0.0001 before" in message
        tell_status(here / "other", step=4, saved=4, changes=yaml.safe_load(config.read_text()))
        before = Training(settings=read_settings(config).plain(), data=("/elsewhere",), contents="other")
        (here / "other" / ".run").mkdir()
        Run(here / "other").write_state(RunState(training=before))
        message = self.refused(capsys, "--train", config, "--data", data, "--output-dir", here / "other")
        assert "other settings (--data: other clips, or other recipes)" in message
        (here / "other" / "training.json").unlink()  # it only tells how far it is
        message = self.refused(capsys, "--train", config, "--data", data, "--output-dir", here / "other")
        assert "--data: other clips, or other recipes" in message
        tested = ("--train", config, "--data", data, "--test-data", data, "--output-dir", here / "other")
        assert f"--test-data: tested on {data}, and on a share before" in self.refused(capsys, *tested)
        small_tar(here / "a.tar")
        (here / "list.txt").write_text("a.tar\n")
        words = ("--list", "list.txt", "--backend", "mulaw", "--output-dir", here / "trained", *LOCAL)
        assert "it holds a training" in self.refused(capsys, *words)


def test_options_of_both_kinds() -> None:
    """Nothing is wrong with a command that gives neither."""
    refuse_others(TrainOptions())


def test_dry_run(capsys: pytest.CaptureFixture[str], here: Path, config: Path, data: Path) -> None:
    """It shows the job: one task with all of the node's GPUs and their cores, which starts a process for each."""
    words = ("--train", config, "--data", data, "--cluster", "slurm", "--gpus-per-node", 4, "--cpus-per-gpu", 3)
    assert call(submit, *words, "--output-dir", "trained", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "training on cuda, 3 epochs, 5 clips a step" in said
    assert "each on one node with 4 GPUs and 4 workers" in said
    for option in ("gpus-per-node=4", "ntasks-per-node=1", "cpus-per-task=12", "array=0-0%1", "signal=USR2@120"):
        assert f"#SBATCH --{option}\n" in said
    assert not (here / "trained").exists()


def status_of(folder: Path) -> Status:
    found = read_status(folder)
    assert found is not None
    return found


@pytest.mark.slow
def test_killed_in_the_middle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: Path, data: Path, model: Path
) -> None:
    """On this machine: the controller starts the task again where a killed one was, Ctrl-C ends it at a checkpoint, and with
    the last epoch's end all figures and weights are those of an undisturbed training, bit for bit.
    """
    folder = tmp_path / "trained"
    config.write_text(SETTINGS.format(model=model, epochs=100_000))
    words = ("--train", config, "--data", data, *LOCAL)
    process = start("hpc.submit", *words, "--output-dir", folder, cwd=tmp_path)
    wait_for(lambda: (status := read_status(folder)) is not None and status.saved >= 3)
    for pid in task_pids(folder):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: submissions(folder) == 2)
    before = status_of(folder).saved
    wait_for(lambda: status_of(folder).saved > before)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert not task_pids(folder)
    stopped = read_checkpoint(folder)
    assert stopped is not None
    assert stopped.step == status_of(folder).saved
    assert call(check_progress, "--output-dir", folder) == 0
    assert f"epoch {stopped.epoch + 1} of 100000, step {stopped.in_epoch} of 5" in capsys.readouterr().out

    config.write_text(SETTINGS.format(model=model, epochs=stopped.epoch + 1))
    process = start("hpc.submit", *words, "--output-dir", folder, cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"{stopped.epoch + 1} of {stopped.epoch + 1} epochs done" in out
    undisturbed = Training(settings=read_settings(config).plain(), data=(str(data),))
    assert train(undisturbed, tmp_path / "whole", "cpu", stop=lambda: False, environment={})
    assert (folder / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    one, two = read_checkpoint(folder), read_checkpoint(tmp_path / "whole")
    assert one is not None
    assert two is not None
    assert all(value.equal(two.weights[name]) for name, value in one.weights.items())
    assert call(submit, *words, "--output-dir", folder) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_and_a_loss_that_is_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: Path, data: Path
) -> None:
    """Two processes on this machine exchange a step over gloo; the next diverges, and it ends with 4, one message, no other
    job, and the message where people look for it.
    """
    config.write_text(config.read_text().replace("0.003", "1.0e+30") + "clip_norm: 1.0e+30\n")
    folder = tmp_path / "diverged"
    words = ("--train", config, "--data", data, *LOCAL, "--workers", 2, "--output-dir", folder)
    process = start("hpc.submit", *words, cwd=tmp_path)
    _, err = process.communicate()
    assert process.returncode == 4
    assert err.count("error: ") == 1
    assert "error: stuck: step 2: the loss is" in err
    (submission,) = Run(folder).submissions()
    plan = submission.read_plan()
    assert plan is not None
    assert plan.ranks == 2
    assert call(check_progress, "--output-dir", folder, "--json") == 0
    assert '"stopped": "step 2: the loss is' in capsys.readouterr().out
    assert call(failures, "--output-dir", folder) == 1
    assert capsys.readouterr().out.startswith("step 2: the loss is")
