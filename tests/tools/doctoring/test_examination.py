"""tools/doctoring/examination.py: checks that hang, fail and refuse; what is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.slurm_commands import SlurmCommands

from audio_tokenizers.errors import UsageError
from hpc.launch import Launch
from tools.common.findings import Finding
from tools.doctoring import examination, folder_probe
from tools.doctoring.bounded import answers
from tools.doctoring.examination import Asked, examine

HERE = Launch(cluster="local", device="cpu", gpus_per_node=0)


def examined(asked: Asked) -> dict[str, Finding]:
    """Check -> finding."""
    return {finding.check: finding for finding in examine(asked)}


def contents(folder: Path) -> list[str]:
    """All that is below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_good_machine_and_nothing_left_behind(tmp_path: Path) -> None:
    """Every check of the folder has an answer; the output directory, which was not there, is not there."""
    found = examined(Asked(tmp_path / "a" / "tokens", HERE, backend="mulaw"))
    assert set(folder_probe.CHECKS) <= set(found)
    assert not [finding for finding in found.values() if finding.verdict == "fault"]
    assert found["weights"].found == "it needs none"
    assert found["Slurm"].found.startswith("not asked")
    assert contents(tmp_path) == []


@pytest.mark.slow
def test_an_output_directory_keeps_what_is_in_it(tmp_path: Path) -> None:
    """Nothing outside the folder of its own is touched."""
    (tmp_path / "000.jsonl").write_text("{}\n")
    examined(Asked(tmp_path, HERE))
    assert contents(tmp_path) == ["000.jsonl"]
    assert (tmp_path / "000.jsonl").read_text() == "{}\n"


HANGING = """
import sys, time
from pathlib import Path
from tools.doctoring import folder_probe
from jobs.fileops import FileOps
def hang(folder, ops):
    Path({begun!r}).touch()
    time.sleep(600)
folder_probe.CHECKS = {{**folder_probe.CHECKS, "rename": hang}}
sys.exit(folder_probe.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_file_system_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that hangs is named; those before it have their answers, and what needs no folder is checked too."""
    begun = tmp_path / "begun"
    code = HANGING.format(begun=str(begun))

    def command(module: str, *arguments: object) -> list[str]:
        if module == "folder_probe":
            return [sys.executable, "-c", code, *map(str, arguments)]
        return [sys.executable, "-m", f"tools.doctoring.{module}", *map(str, arguments)]

    monkeypatch.setattr(examination, "probe_command", command)
    monkeypatch.setattr(examination, "answers", lambda argv, seconds: answers(argv, seconds, pointless=begun.exists))
    found = examined(Asked(tmp_path / "tokens", HERE))
    assert found["hard link"].verdict == "ok"
    assert found["rename"].verdict == "fault"
    assert "it hangs" in found["rename"].found
    assert "fsync" not in found
    assert contents(tmp_path) == ["begun"]


@pytest.mark.slow
def test_a_folder_where_nothing_can_be_made(tmp_path: Path) -> None:
    """It is told with the reason, and the other checks go on."""
    (tmp_path / "file").touch()
    found = examined(Asked(tmp_path / "file" / "tokens", HERE))
    assert found["folder"].verdict == "fault"
    assert "Not a directory" in found["folder"].found
    assert "python" in found
    assert "rename" not in found


@pytest.mark.slow
def test_an_interrupted_examination_leaves_nothing(tmp_path: Path) -> None:
    """Whoever stops reading ends it."""
    findings = examine(Asked(tmp_path / "tokens", HERE))
    next(findings)
    assert contents(tmp_path / "tokens")
    findings.close()
    assert contents(tmp_path) == []


@pytest.mark.slow
def test_a_list_and_weights_that_are_missing(tmp_path: Path) -> None:
    """A tar that is gone is the machine's fault; a list that is gone is the caller's."""
    (tmp_path / "list").write_text(f"{tmp_path}/gone.tar\n")
    found = examined(Asked(tmp_path, HERE, tar_list=tmp_path / "list", backend="mimi", model_path=str(tmp_path / "nothing")))
    assert "1 of 1 cannot be tokenized" in found["tars"].found
    assert "found nothing" in found["weights"].found
    with pytest.raises(UsageError, match="there is no such file"):
        examined(Asked(tmp_path, HERE, tar_list=tmp_path / "no list"))


@pytest.fixture
def slurm(tmp_path: Path) -> tuple[SlurmCommands, Asked]:
    """Stand-ins for Slurm's commands, and a run that uses them."""
    commands = SlurmCommands(tmp_path / "bin")
    commands.answer("scontrol", "MaxArraySize = 1001\n")
    (commands.folder / "srun").symlink_to(commands.folder / "sbatch")
    launch = Launch(cluster="slurm", device="cpu", gpus_per_node=0, environment={"PATH": commands.environment["PATH"]})
    return commands, Asked(tmp_path / "tokens", launch, slurm=True, nodes=2, wait_s=5, again=("again",))


@pytest.mark.slow
def test_a_slurm_that_does_not_answer_is_asked_no_further(slurm: tuple[SlurmCommands, Asked]) -> None:
    """What could not be checked is said."""
    commands, asked = slurm
    commands.answer("squeue", err="squeue: fatal: Could not establish a configuration source", code=1)
    found = examined(asked)
    assert found["squeue"].verdict == "fault"
    assert found["nodes"].found == "not asked, since Slurm does not answer"
    assert not [call for call in commands.calls() if call.startswith(("srun", "sbatch --test-only"))]


@pytest.mark.slow
def test_a_job_that_slurm_would_refuse(slurm: tuple[SlurmCommands, Asked]) -> None:
    """Its words are told, and no node is asked."""
    commands, asked = slurm
    (commands.folder / "sbatch").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo slurm 23.02 && exit\ncat > /dev/null\necho "Invalid account" >&2; exit 1\n'
    )
    found = examined(asked)
    assert found["sbatch"].verdict == "ok"
    assert found["a job"].found == "sbatch would refuse it: Invalid account"
    assert "would refuse" in found["nodes"].found


@pytest.mark.slow
def test_where_two_nodes_are_not_free_one_is_asked(slurm: tuple[SlurmCommands, Asked]) -> None:
    """And where none is, it says how to ask again."""
    commands, asked = slurm
    commands.answer("srun", err="srun: error: Unable to allocate resources: Requested nodes are busy", code=1)
    found = examined(asked)
    assert [call.split()[1] for call in commands.calls() if call.startswith("srun")] == ["--nodes=2", "--nodes=1"]
    assert found["nodes"].verdict == "warning"
    assert found["nodes"].advice.endswith("more patience: again")
