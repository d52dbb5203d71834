"""Tars at addresses, from the list to the committed file: the bytes that local copies give, whatever the network does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.object_store import ObjectStore, store_of_this_process
from support.runs import call, tree
from support.small_run import mulaw_spec, small_tar, stopping_after, tokenize

from audio_tokenizers.errors import InfrastructureError
from audio_tokenizers.mulaw import FACTORY
from hpc.run import Run
from hpc.submit import submit
from jobs import remote_files
from jobs.addresses import place_of
from jobs.remote_tar import RemoteTar
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_source import tar_source
from jobs.tar_work import TarResult, WrittenMeanwhileError
from jobs.tokenize import tokenize_tar
from jobs.tokenize_tar import tokenize_tar as tokenize_tar_command
from tools.check_progress import check_progress
from tools.show import show

MULAW = ("--backend", "mulaw", "--device", "cpu", "--cluster", "local", "--workers", 1)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with store_of_this_process(monkeypatch) as store:
        yield store


def attempt(tar: str, output: Path, **settings: Any) -> TarResult:
    """One attempt, in this process."""
    source = tar_source(tar, allow_pipe=True)
    source = RemoteTar(tar, tries=3) if isinstance(source, RemoteTar) else source
    paths = TarPaths(output, TarPaths.stem(place_of(tar)))
    return tokenize_tar(source, paths, mulaw_spec(), FACTORY.load({}, "cpu"), **settings)


class TestOneTar:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return small_tar(tmp_path / "a.tar", clips=12, samples=200_000)

    @pytest.fixture
    def expected(self, path: Path, tmp_path: Path) -> bytes:
        """The committed file of the local tar."""
        tokenize(path, tmp_path / "local")
        return (tmp_path / "local/a.jsonl").read_bytes()

    @pytest.fixture(params=["http", "s3", "pipe"])
    def tar(self, request: pytest.FixtureRequest, path: Path, store: ObjectStore) -> str:
        url = store.put("bucket/d/a.tar", path.read_bytes())
        return {"http": url, "s3": "s3://bucket/d/a.tar", "pipe": f"pipe:cat '{path}'"}[request.param]

    @pytest.fixture
    def lines(self, tar: str, path: Path, tmp_path: Path) -> Any:
        """The committed file, with the tar called as the local one is."""
        return lambda: (tmp_path / "out/a.jsonl").read_bytes().replace(tar.encode(), str(path).encode())

    @pytest.mark.slow
    def test_bytes_of_a_local_copy(self, tar: str, expected: bytes, lines: Any, store: ObjectStore, tmp_path: Path) -> None:
        """But for the tar's name lines are the same; the manifest says which version of the object they are of."""
        store.statuses[:], store.cuts[:] = [503], [500_000]
        assert attempt(tar, tmp_path / "out").outcome == "committed"
        assert lines() == expected
        manifest = read_manifest(tmp_path / "out/.run/manifests/a.json")
        assert manifest is not None
        assert manifest.input_version.startswith("command: " if tar.startswith("pipe:") else "ETag: ")

    @pytest.mark.slow
    def test_resume(self, tar: str, expected: bytes, lines: Any, tmp_path: Path) -> None:
        """An attempt that was stopped is gone on with at the next clip, and the bytes are those of one go."""
        assert attempt(tar, tmp_path / "out", **stopping_after(5)).outcome == "yielded"
        assert (tmp_path / "out/a.jsonl.partial").read_bytes().count(b"\n") == 5
        assert attempt(tar, tmp_path / "out").outcome == "committed"
        assert lines() == expected

    @pytest.mark.slow
    def test_same_tar_under_another_name(self, path: Path, expected: bytes, store: ObjectStore, tmp_path: Path) -> None:
        """The version says which tar it is, not the address: what was begun by one goes on by the other."""
        url = store.put("bucket/d/a.tar", path.read_bytes())
        attempt(url, tmp_path / "out", **stopping_after(5))
        done: list[str] = []
        tar = "s3://bucket/d/a.tar"
        attempt(tar, tmp_path / "out", on_progress=lambda record, _: done.append(record.audio_file))
        assert len(done) == 12 - 5
        found = (tmp_path / "out/a.jsonl").read_bytes()
        assert found.replace(tar.encode(), str(path).encode()) == expected

    @pytest.mark.slow
    def test_outage(self, tar: str, expected: bytes, lines: Any, store: ObjectStore, tmp_path: Path) -> None:
        """Where the rest of a tar does not come, that is the machine's trouble: no verdict, no record; later it goes on."""
        if tar.startswith("pipe:"):
            tar = tar.replace("cat ", "head -c 2500000 ") + " && test -e '" + str(tmp_path) + "/mended'"
            whole = tar_source(tar.replace("head -c 2500000", "cat"), allow_pipe=True)
        else:
            whole = RemoteTar(tar, tries=3)
            store.cuts[:] = [2_500_000, *[0] * 1000]
        with pytest.raises(InfrastructureError, match=r"network|exit code 1") as caught:
            attempt(tar, tmp_path / "out")
        assert "partial stays good" in str(caught.value)
        assert not (tmp_path / "out/a.jsonl").exists()
        manifest = TarPaths(tmp_path / "out", "a").read_unfinished()
        assert manifest is None or manifest.verdict == "in_progress"
        if isinstance(whole, RemoteTar):
            store.cuts.clear()
            assert attempt(tar, tmp_path / "out").outcome == "committed"
            assert lines() == expected

    @pytest.mark.slow
    def test_replaced_while_it_is_read(self, path: Path, expected: bytes, store: ObjectStore, tmp_path: Path) -> None:
        """Lines of a tar that another has taken the place of are forgotten, and the next attempt is of the new one."""
        other = small_tar(tmp_path / "b.tar", clips=12, samples=200_001).read_bytes()
        for tar in (store.put("bucket/d/a.tar", other), "s3://bucket/d/a.tar"):
            store.put("bucket/d/a.tar", other)
            output = tmp_path / tar[:4]
            with pytest.raises(WrittenMeanwhileError, match="written to while it was read"):
                attempt(tar, output, on_progress=lambda *_: store.put("bucket/d/a.tar", path.read_bytes()))
            assert not list(output.glob("a.jsonl*"))
            assert attempt(tar, output).outcome == "committed"
            assert (output / "a.jsonl").read_bytes().replace(tar.encode(), str(path).encode()) == expected


class TestRuns:
    @pytest.mark.slow
    def test_from_list_to_files(
        self, here: Path, store: ObjectStore, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Braces, a glob of a bucket and an allowed command become a run; the same command adds nothing; tools read it."""
        for number in range(3):
            store.put(f"bucket/d/{number}.tar", small_tar(here / f"{number}.tar", clips=2).read_bytes())
        (here / "list.txt").write_text(f"{store.url}/bucket/d/{{0..0}}.tar\ns3://bucket/d/[12].tar\npipe:cat {here}/2.tar\n")
        arguments = ("--list", "list.txt", *MULAW, "--keep-dirs")
        assert call(submit, *arguments) == 2
        assert "--allow-pipe" in capfd.readouterr().err
        assert not (here / "tokens").exists()
        assert call(submit, *arguments, "--allow-pipe") == 0
        host = store.url.removeprefix("http://")
        names = [f"{host}/bucket/d/0", "bucket/d/1", "bucket/d/2", f"{here}/2".lstrip("/")]
        assert [tar.name for tar in Run(here / "tokens").listed()] == names
        before = tree(here)
        assert call(submit, *arguments, "--allow-pipe") == 0
        assert tree(here) == before
        capfd.readouterr()
        assert call(check_progress, "--check-validity") == 0
        assert "Completed:             4 (100.0%)" in capfd.readouterr().out
        assert call(show, "bucket/d/1", "--clip", 0, "--listen", "a.wav") == 0
        assert (here / "a.wav").stat().st_size > 44
        assert call(show, names[3], "--clip", 0, "--listen", "b.wav") == 2
        assert "other programs never do" in capfd.readouterr().err

    @pytest.mark.slow
    def test_damaged_tar_that_is_replaced(self, here: Path, store: ObjectStore, capfd: pytest.CaptureFixture[str]) -> None:
        """A damaged tar is put into quarantine, and tried again, as it is then, when somebody submits again."""
        data = small_tar(here / "a.tar", clips=3, samples=20_000).read_bytes()
        store.put("bucket/a.tar", data[:50_000])
        (here / "b").write_bytes(data[:50_000])
        (here / "list.txt").write_text(f"s3://bucket/a.tar\npipe:cat {here}/b # b.tar\n")
        arguments = ("--list", "list.txt", *MULAW, "--allow-pipe")
        assert call(submit, *arguments) == 3
        assert "in quarantine: a, b: cut: the file ends at byte 50,000" in capfd.readouterr().err
        store.put("bucket/a.tar", data)
        (here / "b").write_bytes(data)
        assert call(submit, *arguments) == 0
        lines = [(here / f"tokens/{name}.jsonl").read_bytes().split(b'"audio_file"') for name in "ab"]
        assert lines[0][1].split(b"\n")[0] == lines[1][1].split(b"\n")[0]

    @pytest.mark.slow
    def test_committed_tar_that_is_replaced(self, here: Path, store: ObjectStore, capfd: pytest.CaptureFixture[str]) -> None:
        """--check-validity asks its server once: another size makes its tokens invalid, as those of a file; one that is gone
        or whose server is away does not, and the latter is told. Without it no server is asked.
        """
        data = small_tar(here / "a.tar", clips=2).read_bytes()
        for name in ("a", "b", "c"):
            store.put(f"bucket/{name}.tar", data)
        (here / "list.txt").write_text("s3://bucket/{a,b,c}.tar\n")
        assert call(submit, "--list", "list.txt", *MULAW) == 0
        store.put("bucket/a.tar", data + bytes(1024))
        del store.objects["bucket/b.tar"]
        capfd.readouterr()
        store.requests.clear()
        assert call(check_progress) == 0
        assert store.requests == []
        assert call(check_progress, "--check-validity") == 1
        size = len(data)
        words = f"s3://bucket/a.tar has changed since: it had {size:,} bytes then, and has {size + 1024:,} now: move it away"
        assert words in capfd.readouterr().out
        assert len(store.requests) <= 3 + 1  # a HEAD each; S3 looks whether what is gone is a folder
        store.refuses = 503
        assert call(check_progress, "--check-validity") == 0
        out = capfd.readouterr().out
        assert "3 tars at an address that did not answer: whether it has changed since is not known" in out

    def test_without_the_extra(self, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """Nothing is asked and nothing is written: what to install is said at once, by both commands."""
        monkeypatch.setattr(remote_files, "is_installed", lambda _package: False)
        (here / "list.txt").write_text("s3://bucket/a.tar\n")
        assert call(submit, "--list", "list.txt", *MULAW) == 2
        assert "pip install -e '.[remote]'" in capfd.readouterr().err
        assert call(tokenize_tar_command, "--input-tar", "https://h/a.tar", "--backend", "mulaw") == 2
        assert "pip install -e '.[remote]'" in capfd.readouterr().err
        assert list(here.iterdir()) == [here / "list.txt"]

    def test_secret_leaves_no_trace(self, here: Path, store: ObjectStore, capfd: pytest.CaptureFixture[str]) -> None:
        """A signed address is refused, without the signature in the message, before any server is asked."""
        for entry in (f"{store.url}/bucket/a.tar?X-Amz-Signature=hunter2", "https://me:hunter2@h/a.tar"):
            (here / "list.txt").write_text(f"{entry}\n")
            assert call(submit, "--list", "list.txt", *MULAW) == 2
            captured = capfd.readouterr()
            assert "line 1" in captured.err
            assert "hunter2" not in captured.out + captured.err
            assert call(tokenize_tar_command, "--input-tar", entry, "--backend", "mulaw") == 2
            assert "hunter2" not in capfd.readouterr().err
        assert store.requests == []
        assert list(here.iterdir()) == [here / "list.txt"]

    def test_outage_at_submit(self, here: Path, store: ObjectStore, capfd: pytest.CaptureFixture[str]) -> None:
        """It says nothing of the tars: exit code 1, and --skip-missing leaves none out for it."""
        store.put("bucket/a.tar", small_tar(here / "a.tar").read_bytes())
        (here / "list.txt").write_text("s3://bucket/a.tar\n")
        store.refuses = 503
        assert call(submit, "--list", "list.txt", *MULAW, "--skip-missing") == 1
        assert "is the network well?" in capfd.readouterr().err
        assert not (here / "tokens").exists()

    def test_one_tar_by_hand(self, here: Path, store: ObjectStore) -> None:
        """jobs.tokenize_tar takes an address, and its output is named for it."""
        url = store.put("bucket/d/a.tar.gz", small_tar(here / "a.tar", clips=2).read_bytes())
        assert call(tokenize_tar_command, "--input-tar", url, "--backend", "mulaw", "--device", "cpu") == 0
        assert (here / "tokens/a.jsonl").exists()
