"""hpc/remote_list.py: what is refused before a run begins, and sizes that only servers know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.object_store import ObjectStore, store_of_this_process
from support.small_run import small_tar

from audio_tokenizers.errors import InfrastructureError
from hpc.list_check import find_faults
from hpc.remote_list import SizedLook, all_faults, read_sizes, unreadable, write_sizes
from jobs import remote_files


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with store_of_this_process(monkeypatch) as store:
        yield store


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra a list with addresses is refused with what to install; paths need nothing."""
    monkeypatch.setattr(remote_files, "is_installed", lambda _package: False)
    (words,) = unreadable(["/d/a.tar", "s3://b/a.tar"], allow_pipe=False)
    assert words.startswith("tars at s3:// need fsspec, s3fs: pip install -e '.[remote]'")
    assert unreadable(["/d/a.tar", "pipe:cat a.tar"], allow_pipe=True) == []


def test_commands() -> None:
    """A list runs no command that nobody has allowed; the message shows which it would."""
    (words,) = unreadable(["/d/a.tar", "pipe:cat a.tar"], allow_pipe=False)
    assert words.startswith("pipe:cat a.tar: the list names a command")
    assert "--allow-pipe" in words


def test_all_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages, permission and each tar that can be looked at here, but for those that the run knows."""
    monkeypatch.setattr(remote_files, "is_installed", lambda _package: False)
    tars = [
        f"{tmp_path}/none.tar",
        "s3://b/a.tar",
        "pipe:cat a.tar",
        f"{tmp_path}/gone.tar",
        str(small_tar(tmp_path / "a.tar")),
    ]
    packages, command, faults = all_faults(tars, allow_pipe=False, known={tars[3]})
    assert "[remote]" in packages
    assert "--allow-pipe" in command
    assert faults == f"1 of 5 cannot be tokenized:\n  {tars[0]}: there is no such file"
    assert all_faults(tars[4:], allow_pipe=False) == []


def test_what_else_is_wrong_is_told_where_a_server_is_away(store: ObjectStore) -> None:
    """An outage says nothing of the tars, and hides no other fault."""
    url = store.put("bucket/a.tar", b"x" * 1000)
    store.refuses = 503
    command, outage = all_faults(["pipe:cat a.tar", url], allow_pipe=False)
    assert "--allow-pipe" in command
    assert outage.startswith("not all of the others could be looked at: ")


@pytest.mark.slow
def test_check_of_a_list(tmp_path: Path, store: ObjectStore) -> None:
    """What is missing or no tar is named, sizes are noted, a few kilobytes are asked for, and no command is run."""
    path = small_tar(tmp_path / "a.tar", samples=100_000)
    good = store.put("bucket/a.tar", path.read_bytes())
    bad = store.put("bucket/b.tar", b"no tar")
    tars = [good, bad, "s3://bucket/a.tar", "s3://bucket/none.tar", f"pipe:touch {tmp_path}/ran", str(path)]
    look = SizedLook()
    faults = find_faults(tars, look)
    assert list(faults) == [bad, "s3://bucket/none.tar"]
    assert "expected a tar header" in faults[bad]
    assert faults["s3://bucket/none.tar"] == "there is nothing at this address (404)"
    assert {tar: look.sizes[tar] for tar in (good, "s3://bucket/a.tar")} == dict.fromkeys(tars[0:3:2], path.stat().st_size)
    assert not (tmp_path / "ran").exists()
    assert find_faults(tars[4:]) == {}


def test_access_is_a_fault_and_an_outage_is_none(store: ObjectStore) -> None:
    """A person can mend what a server refuses; where it is busy for good, nothing is said of the tars."""
    url = store.put("bucket/a.tar", b"x" * 1000)
    store.refuses = 403
    assert "the server refuses access (403)" in find_faults([url])[url]
    store.refuses = 503
    with pytest.raises(InfrastructureError, match="is the network well"):
        find_faults([url])


def test_sizes_are_kept(tmp_path: Path) -> None:
    """They add up over commands; a file that is none is as no file."""
    path = tmp_path / "sizes.json"
    assert read_sizes(path) == {}
    write_sizes(path, {})
    assert not path.exists()
    write_sizes(path, {"s3://b/a.tar": 5})
    write_sizes(path, {"s3://b/b.tar": 6})
    assert read_sizes(path) == {"s3://b/a.tar": 5, "s3://b/b.tar": 6}
    path.write_text("[")
    assert read_sizes(path) == {}
