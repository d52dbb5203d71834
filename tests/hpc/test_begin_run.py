"""hpc/begin_run.py: all is checked before anything is written, and what is written is what the first round needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.runs import call, tree, write_list
from support.small_run import small_tar

from audio_tokenizers.errors import UsageError
from hpc.begin_run import Begun, ListOptions, begin_run, keep_sharing, new_state
from hpc.launch_options import LaunchOptions
from hpc.run import Run
from jobs.recipe_options import BackendOptions
from jobs.spec import read_spec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tokenize_tar import tokenize_tar
from jobs.trust import trust_of
from jobs.worker_options import WishOptions

LOCAL = LaunchOptions(cluster="local", device="cpu")


@pytest.fixture(autouse=True)
def no_site(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster.yaml of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "config"))


@pytest.fixture
def tars(here: Path) -> Path:
    """A list of three tars."""
    return write_list(here / "l.txt", [small_tar(here / f"{name}.tar") for name in "abc"])


def begin(
    which: ListOptions, *, asked: LaunchOptions = LOCAL, retry_errors: bool = False, dry_run: bool = False, **recipe: Any
) -> Begun:
    """The run `tokens` in the current folder."""
    trust = trust_of()
    backend, wishes = BackendOptions(**{"backend": "mulaw", **recipe}), WishOptions(retry_errors=retry_errors)
    return begin_run(Run(Path("tokens").absolute(), trust), which, backend, wishes, asked, trust, dry_run=dry_run)


def names(begun: Begun) -> list[str]:
    """Of the tars that are left to do."""
    return [tar.name for tar in begun.todo]


def test_recipe_and_list_are_written(tars: Path) -> None:
    """And the same command finds them; a part of the list is a part of the work, and the rest comes later."""
    begun = begin(ListOptions(tar_list=tars, from_index=1, to_index=2))
    assert names(begun) == ["b"]
    assert read_spec(begun.run.output_dir) == begun.spec
    assert begun.launch.options == begun.spec.options
    assert names(begin(ListOptions(tar_list=tars))) == ["a", "b", "c"]
    assert names(begin(ListOptions())) == ["b", "a", "c"]


def test_dry_run_writes_nothing(here: Path, tars: Path) -> None:
    """It says what would be done."""
    before = tree(here)
    assert names(begin(ListOptions(tar_list=tars), dry_run=True)) == ["a", "b", "c"]
    assert tree(here) == before


@pytest.mark.parametrize(
    ("which", "given", "words"),
    [
        (ListOptions(), {}, "--list: expected a file with a tar per line"),
        (ListOptions(tar_list=Path("l.txt"), from_index=3), {}, "--from-index 3: no tar of l.txt is in this range"),
        (ListOptions(tar_list=Path("l.txt")), {"backend": "mulow"}, "did you mean 'mulaw'"),
        (ListOptions(tar_list=Path("l.txt")), {"max_damage": 2.0}, "--max-damage 2: expected a share"),
        (ListOptions(tar_list=Path("l.txt")), {"asked": LaunchOptions(device="tpu", cluster="slurm")}, "--device 'tpu'"),
        (ListOptions(tar_list=Path("l.txt")), {"asked": LaunchOptions(time="soon", cluster="local")}, "--time soon"),
    ],
)
def test_what_is_refused_leaves_no_trace(
    here: Path, tars: Path, which: ListOptions, given: dict[str, Any], words: str
) -> None:
    """A command that cannot be done changes nothing, so that a better one starts from nothing."""
    before = tree(here)
    with pytest.raises(UsageError) as caught:
        begin(which, **given)
    assert words in str(caught.value)
    assert tree(here) == before


def test_missing_tars(here: Path, tars: Path) -> None:
    """They are named before anything is written, and left out if that was asked for."""
    (here / "b.tar").unlink()
    with pytest.raises(UsageError, match="--skip-missing"):
        begin(ListOptions(tar_list=tars))
    assert not (here / "tokens").exists()
    assert names(begin(ListOptions(tar_list=tars, skip_missing=True))) == ["a", "c"]


def test_clips_with_errors_are_tried_again_if_that_is_asked_for(here: Path, tars: Path) -> None:
    """The controller hears which attempt has to be replaced; a finished run else has nothing to do."""
    listed = ListOptions(tar_list=tars, to_index=1)
    begun = begin(listed)
    assert call(tokenize_tar, "--input-tar", here / "a.tar", "--backend", "mulaw") == 0
    assert names(begin(listed)) == []
    begun = begin(listed, retry_errors=True)
    manifest = read_manifest(TarPaths(here / "tokens", "a").manifest)
    assert manifest is not None
    assert new_state(begun, retry_errors=True).retry == {"a": manifest.attempt}
    assert new_state(begun, retry_errors=False).retry == {}


def test_a_run_with_nothing_to_do_is_one_all_the_same(here: Path, tars: Path) -> None:
    """Commands that ask for a run find it, with who shares it; what was launched before stays."""
    begun = begin(ListOptions(tar_list=tars))
    keep_sharing(begun)
    state = begun.run.read_state()
    assert state.launch == begun.launch
    begun.run.write_state(new_state(begun, retry_errors=False))
    other = begin(ListOptions(), asked=LaunchOptions(cluster="local", device="cpu", procs_per_gpu=3))
    keep_sharing(other)
    assert begun.run.read_state().launch == begun.launch
    assert begun.run.read_state().run_id == state.run_id
