"""tools/adopting/begin.py: which tars, where, and a recipe that says that tokens are mixed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.old_output import adopting_spec, whole_tar
from support.runs import write_list
from support.small_run import mulaw_spec

from audio_tokenizers.errors import UsageError
from hpc.begin_run import ListOptions
from hpc.run import Run
from jobs.model_hashes import ModelHashes
from jobs.recipe_options import BackendOptions
from jobs.spec import TokenizeSpec, freeze_spec, make_spec
from tools.adopting.begin import adopting_spec as spec_for
from tools.adopting.begin import check_places, choose_tars

MULAW = BackendOptions(backend="mulaw")


def spec_in(output_dir: Path, recipe: BackendOptions = MULAW) -> TokenizeSpec:
    return spec_for(Run(output_dir), recipe, "cpu", ModelHashes(output_dir))


def test_the_recipe_says_so(here: Path) -> None:
    """It is another recipe than that of a run without adopted lines, and stays the run's when the run continues."""
    spec = spec_in(here / "tokens")
    assert (spec, spec.adopted) == (adopting_spec(), "higgs")
    assert spec.fingerprint != mulaw_spec().fingerprint
    freeze_spec(here / "tokens", spec)
    assert make_spec("mulaw", device="cpu", begun=spec) == spec
    assert spec_in(here / "tokens") == spec
    with pytest.raises(UsageError, match="adopted: higgs"):
        freeze_spec(here / "tokens", mulaw_spec())


def test_a_run_of_its_own_recipe_is_not_mixed_into(here: Path) -> None:
    """Its tokens are all made by it."""
    freeze_spec(here / "tokens", mulaw_spec())
    with pytest.raises(UsageError, match="holds tokens of its own recipe alone"):
        spec_in(here / "tokens")


@pytest.mark.parametrize(
    "cut", [BackendOptions(backend="mulaw", segments=True), BackendOptions(backend="mulaw", channel="split")]
)
def test_parts_of_members_have_no_old_lines(here: Path, cut: BackendOptions) -> None:
    """Older tools took whole members."""
    with pytest.raises(UsageError, match="make several clips of a member"):
        spec_in(here / "tokens", cut)


def test_the_old_output_stays_as_it_is(tmp_path: Path) -> None:
    """No run inside it, around it, or in its place, by links either."""
    old = tmp_path / "data" / "tokens"
    old.mkdir(parents=True)
    (tmp_path / "link").symlink_to(old)
    for output_dir in (old, old / "new", tmp_path / "data", tmp_path / "link", tmp_path / "link" / "x"):
        with pytest.raises(UsageError, match="expected a folder outside the old output"):
            check_places(old, output_dir)
    check_places(old, tmp_path / "data" / "tokens2")


class TestTars:
    def test_all_of_a_list_or_some(self, here: Path) -> None:
        """As for hpc.submit."""
        tars = [whole_tar(here / f"{name}.tar", 1) for name in "123"]
        tar_list = write_list(here / "tars.txt", tars)
        run = Run(here / "tokens")
        assert choose_tars(run, ListOptions(tar_list=tar_list)) == [str(tar) for tar in tars]
        assert choose_tars(run, ListOptions(tar_list=tar_list, from_index=1, to_index=2)) == [str(tars[1])]

    def test_without_a_list_those_of_the_run(self, here: Path) -> None:
        """As for hpc.submit, so a second adoption needs no list."""
        tars = [str(whole_tar(here / f"{name}.tar", 1)) for name in "12"]
        run = Run(here / "tokens")
        run.folder.mkdir(parents=True)
        run.add_to_list(tars, keep_dirs=False)
        assert choose_tars(run, ListOptions()) == tars
        assert choose_tars(run, ListOptions(to_index=1)) == tars[:1]
        with pytest.raises(UsageError, match=f"^--output-dir {here}/tokens: no tar of it is in the range"):
            choose_tars(run, ListOptions(from_index=2))

    def test_tars_that_are_missing(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """They are named, and may be left out."""
        tars = [whole_tar(here / "1.tar", 1), here / "gone.tar"]
        tar_list = write_list(here / "tars.txt", tars)
        run = Run(here / "tokens")
        with pytest.raises(UsageError, match=r"gone.tar: there is no such file\ncorrect the list"):
            choose_tars(run, ListOptions(tar_list=tar_list))
        assert choose_tars(run, ListOptions(tar_list=tar_list, skip_missing=True)) == [str(tars[0])]
        assert "gone.tar: there is no such file" in capsys.readouterr().err
        tars[0].unlink()
        with pytest.raises(UsageError, match="2 of 2 cannot be tokenized"):
            choose_tars(run, ListOptions(tar_list=tar_list, skip_missing=True))

    def test_no_list_no_range_no_commands(self, here: Path) -> None:
        """Each has a message."""
        run = Run(here / "tokens")
        tar_list = write_list(here / "tars.txt", [whole_tar(here / "1.tar", 1)])
        with pytest.raises(UsageError, match="--list: expected a file with a tar per line"):
            choose_tars(run, ListOptions())
        with pytest.raises(UsageError, match="no tar of it is in the range"):
            choose_tars(run, ListOptions(tar_list=tar_list, from_index=1))
        tar_list.write_text("pipe:cat 1.tar\n")
        with pytest.raises(UsageError, match="tars are read twice here"):
            choose_tars(run, ListOptions(tar_list=tar_list))
        assert not os.path.lexists(here / "tokens")
