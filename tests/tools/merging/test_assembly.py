"""tools/merging/assembly.py: the same bytes however often it was interrupted, and nobody's file is lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.committed_runs import READ_BACK, commit, error, lines_of, listed, make_run, some_records
from support.crashing import CrashingOps, PowerLossOps, SimulatedCrash
from support.runs import tree

from audio_tokenizers.errors import ClaimLostError, InfrastructureError, UsageError
from jobs.claims import Claim, process_start
from jobs.records import Record
from tools.common.run_files import committed_files
from tools.merging.assembly import Merged, merge
from tools.merging.index import MergePaths, read_index
from tools.merging.members import Compression
from tools.merging.partial import MergeOps

RECORDS: dict[str, list[Record]] = {"1": some_records(1), "2": [], "3": some_records(3), "4": some_records(4, clips=9)}


class CrashingCopies(CrashingOps, MergeOps):
    """Dies before or after a copy, too."""

    def copy(self, fd: int, source: int, start: int, size: int) -> None:
        self._step(lambda: super(CrashingCopies, self).copy(fd, source, start, size))


class LossyCopies(PowerLossOps, CrashingCopies):
    """And loses what was not made durable."""


def run_merge(folder: Path, name: str = "all.jsonl.gz", **settings: object) -> Merged | None:
    """Merge the run in `folder`/tokens into `folder`/out/`name`; members are logged one by one."""
    return Merge(folder)(name, **settings)


class Merge:
    """The same, as often as one likes, of what is committed now."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self._files = committed_files(folder / "tokens", partial_ok=True)
        self._listed = listed(folder / "tokens")

    def __call__(self, name: str = "all.jsonl.gz", **settings: Any) -> Merged | None:
        return merge(self._files, self._listed, self.out / name, **{"checkpoint_bytes": 1, **settings})

    def left(self) -> dict[str, bytes]:
        """What is there now."""
        return tree(self.out)


def content(folder: Path) -> bytes:
    """What the run's lines are, in list order."""
    return b"".join(file.path.read_bytes() for file in committed_files(folder / "tokens", partial_ok=True))


def run_of(folder: Path, records: Mapping[str, Sequence[Record] | None]) -> Path:
    """A run in `folder`/tokens."""
    (folder / "tokens").mkdir(parents=True, exist_ok=True)
    make_run(folder / "tokens", records)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four committed files, one without lines."""
    return run_of(tmp_path, RECORDS)


class TestMerge:
    @pytest.mark.parametrize(("name", "compression"), [("a.jsonl", "plain"), ("a.gz", "gz"), ("a.zst", "zst")])
    def test_all_lines_in_list_order(self, folder: Path, name: str, compression: Compression) -> None:
        """Every line of the run stands in the file once, in list order, and beside it is nothing but its index."""
        merged = run_merge(folder, name)
        assert merged is not None
        data = (folder / "out" / name).read_bytes()
        assert READ_BACK[compression](data) == content(folder) == b"".join(map(lines_of, RECORDS.values()))
        assert (merged.lines, merged.left_out, merged.made) == (4 + 4 + 10, {}, 4)
        assert (merged.bytes_in, merged.bytes_out) == (len(content(folder)), len(data))
        assert sorted(tree(folder / "out")) == [name, f"{name}.index"]

    @pytest.mark.parametrize(("name", "compression"), [("a.jsonl", "plain"), ("a.gz", "gz"), ("a.zst", "zst")])
    def test_each_member_can_be_read_alone(self, folder: Path, name: str, compression: Compression) -> None:
        """The index says where each committed file's lines are: those bytes alone decompress to them."""
        run_merge(folder, name)
        paths = MergePaths(folder / "out" / name)
        index, data = read_index(paths.index, paths.output), paths.output.read_bytes()
        assert index is not None
        assert index.whole
        start = 0
        for entry, (key, records) in zip(index.entries, RECORDS.items(), strict=True):
            member = data[start : entry.end]
            assert (READ_BACK[compression](member) if records else member) == lines_of(records)
            assert (entry.name, entry.lines) == (key, len(records))
            start = entry.end

    def test_a_shape(self, folder: Path) -> None:
        """Errors are left out of a shape, and counted over all files; the index says of which."""
        merged = run_merge(folder, shape="higgs")
        assert merged is not None
        assert (merged.lines, merged.left_out) == (3 + 3 + 9, {"decode": 3})
        lines = READ_BACK["gz"]((folder / "out" / "all.jsonl.gz").read_bytes()).splitlines()
        expected = ["tar_file", "audio_file", "num_samples", "sample_rate", "tokens", "token_shape"]
        assert [list(msgspec.json.decode(line)) for line in lines] == [expected] * 15

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
    def test_several_processes(self, folder: Path, name: str) -> None:
        """Processes change nothing: members made apart and joined are the bytes that one process writes."""
        run_merge(folder, name)
        alone = tree(folder / "out")
        shutil.rmtree(folder / "out")
        told: list[tuple[int, bool]] = []
        merged = run_merge(folder, name, workers=2, tell=lambda size, before=False: told.append((size, before)))
        assert merged is not None
        assert merged.made == 4
        assert tree(folder / "out") == alone
        assert sum(size for size, _ in told) == len(content(folder))

    def test_links_lead_to_the_file(self, folder: Path) -> None:
        """An output that is a link stays one: what it points to is made."""
        (folder / "out").mkdir()
        (folder / "disk").mkdir()
        (folder / "out" / "all.jsonl").symlink_to(folder / "disk" / "tokens.jsonl")
        run_merge(folder, "all.jsonl")
        assert (folder / "out" / "all.jsonl").is_symlink()
        assert (folder / "disk" / "tokens.jsonl").read_bytes() == content(folder)

    @pytest.mark.parametrize(
        ("records", "shape", "words"),
        [
            ({"1": [], "2": []}, None, "expected lines in 2 committed files, found none: no file has a line"),
            ({"1": [error(), error("empty")]}, "higgs", r"--shape higgs: .* all clips are left out \(decode 1, empty 1\)"),
        ],
    )
    def test_nothing_to_write(self, tmp_path: Path, records: dict[str, list[Record]], shape: str, words: str) -> None:
        """A file without a line would be taken for a finished one: it is not made, and why is said."""
        run_of(tmp_path, records)
        with pytest.raises(UsageError, match=words):
            run_merge(tmp_path, shape=shape)
        assert tree(tmp_path / "out") == {}


class TestAgain:
    def test_finished_work_is_left_alone(self, folder: Path) -> None:
        """The same command again writes nothing at all."""
        run_merge(folder)
        before = {path: path.stat() for path in (folder / "out").iterdir()}
        assert run_merge(folder, ops=CrashingCopies(crash_at=0)) is None
        assert {path: path.stat() for path in (folder / "out").iterdir()} == before

    @pytest.mark.parametrize("first", [{"1", "2"}, {"1", "3"}, {"3", "4"}, {"2", "4"}])
    def test_a_run_that_has_grown(self, tmp_path: Path, first: set[str]) -> None:
        """What is new is made and the rest copied, wherever it stands in the list: the bytes of a merge of all at once."""
        run_of(tmp_path, {name: records if name in first else None for name, records in RECORDS.items()})
        run_merge(tmp_path)
        assert READ_BACK["gz"]((tmp_path / "out" / "all.jsonl.gz").read_bytes()) == content(tmp_path)
        for name in RECORDS.keys() - first:
            commit(tmp_path / "tokens", name, RECORDS[name])
        told: list[tuple[int, bool]] = []
        merged = run_merge(tmp_path, tell=lambda size, before=False: told.append((size, before)))
        assert merged is not None
        assert (merged.made, merged.lines) == (4 - len(first), 18)
        assert sum(size for size, before in told if before) == sum(len(lines_of(RECORDS[name])) for name in first)
        grown = tree(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        run_merge(tmp_path)
        assert tree(tmp_path / "out") == grown

    def test_a_file_that_was_made_again(self, folder: Path) -> None:
        """A committed file with other bytes gets another member; the others' are copied."""
        run_merge(folder)
        commit(folder / "tokens", "1", some_records(7))
        merged = run_merge(folder)
        assert merged is not None
        assert merged.made == 1
        assert READ_BACK["gz"]((folder / "out" / "all.jsonl.gz").read_bytes()) == content(folder)

    def test_a_partial_of_another_shape_is_not_used(self, folder: Path) -> None:
        """What was begun with other lines is begun anew: nobody has called it finished."""
        with pytest.raises(SimulatedCrash):
            run_merge(folder, shape="higgs", ops=CrashingCopies(crash_at=16))
        run_merge(folder)
        assert READ_BACK["gz"]((folder / "out" / "all.jsonl.gz").read_bytes()) == content(folder)


class TestInterrupted:
    @pytest.fixture(autouse=True)
    def fast_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No crash here is a real one: nothing has to wait for the disk."""
        monkeypatch.setattr(os, "fsync", lambda _: None)

    def steps(self, attempt: Callable[[CrashingCopies], object]) -> Iterator[tuple[int, bool]]:
        """Every step of an undisturbed attempt, before and after it."""
        counting = CrashingCopies()
        attempt(counting)
        assert counting.count > 20
        for step in range(counting.count):
            yield step, False
            yield step, True

    @pytest.mark.parametrize(("name", "checkpoint_bytes"), [("all.jsonl.gz", 1), ("all.jsonl", 1 << 20)])
    def test_at_every_step(self, folder: Path, name: str, checkpoint_bytes: int) -> None:
        """Killed before or after any file operation: no output that is not whole, and a rerun makes the same bytes."""
        run = Merge(folder)
        run(name)
        expected = run.left()

        def attempt(ops: MergeOps) -> None:
            shutil.rmtree(run.out)
            run(name, ops=ops, checkpoint_bytes=checkpoint_bytes)

        for step, after in self.steps(attempt):
            with pytest.raises(SimulatedCrash):
                attempt(CrashingCopies(step, after=after))
            if (run.out / name).exists():
                assert (run.out / name).read_bytes() == expected[name]
            run(name)
            assert run.left() == expected

    @pytest.mark.slow
    def test_at_every_step_of_growing(self, tmp_path: Path) -> None:
        """Killed while it takes in what a run has gained: the finished file stays what it was until it is the new one."""
        name = "all.jsonl.gz"
        run_of(tmp_path, {**RECORDS, "3": None})
        run_merge(tmp_path)
        old = tree(tmp_path / "out")
        commit(tmp_path / "tokens", "3", RECORDS["3"])
        run = Merge(tmp_path)
        run()
        new = run.left()

        def attempt(ops: MergeOps) -> None:
            shutil.rmtree(run.out)
            run.out.mkdir()
            for file, data in old.items():
                (run.out / file).write_bytes(data)
            run(ops=ops)

        for step, after in self.steps(attempt):
            with pytest.raises(SimulatedCrash):
                attempt(CrashingCopies(step, after=after))
            assert (run.out / name).read_bytes() in (old[name], new[name])
            run()
            assert run.left() == new

    @pytest.mark.slow
    def test_power_loss_at_every_step(self, folder: Path) -> None:
        """And what was not made durable by then may be lost, wholly or in part."""
        run = Merge(folder)
        run()
        expected = run.left()

        def attempt(ops: MergeOps) -> None:
            shutil.rmtree(run.out)
            run(ops=ops)

        for step, after in self.steps(attempt):
            ops = LossyCopies(step, after=after, seed=step)
            with pytest.raises(SimulatedCrash):
                attempt(ops)
            ops.lose_power()
            run()
            assert run.left() == expected

    @pytest.mark.parametrize("name", ["all.jsonl.gz", "all.jsonl"])
    def test_wherever_the_partial_is_cut(self, folder: Path, name: str) -> None:
        """A partial of any length, with a log of any length beside it, gives the same bytes."""
        run, paths = Merge(folder), MergePaths(folder / "out" / name)
        with pytest.raises(SimulatedCrash):
            run(name, ops=NoRename())
        partial, log = paths.partial.read_bytes(), paths.partial_index.read_bytes()
        index = read_index(paths.partial_index, paths.partial)
        assert index is not None
        assert len(index.entries) == 4
        run(name)
        expected = run.left()
        ends = [0, *(entry.end for entry in index.entries)]
        cuts = [(partial[: max(0, end + off)], log) for end in ends for off in (-1, 0, 1)]
        cuts += [(partial, log[:length]) for length in range(0, len(log), 41)]
        cuts += [(partial + b"what a killed writer left", log), (b"x" * (ends[2] - 1), log), (b"x" * len(partial), b"")]
        for partial_bytes, log_bytes in cuts:
            paths.output.unlink()
            paths.index.unlink()
            paths.partial.write_bytes(partial_bytes)
            paths.partial_index.write_bytes(log_bytes)
            run(name)
            assert run.left() == expected

    def test_whole_members_are_kept(self, folder: Path) -> None:
        """Ended by an error or by Ctrl-C, a merge keeps every member that was whole by then, and the next one says so."""

        def stop(size: int, before: bool = False) -> None:
            told.append((size, before))
            if len(told) == 2:
                raise KeyboardInterrupt

        told: list[tuple[int, bool]] = []
        with pytest.raises(KeyboardInterrupt):
            run_merge(folder, checkpoint_bytes=1 << 30, tell=stop)
        assert not (folder / "out" / "all.jsonl.gz").exists()
        merged = run_merge(folder, tell=lambda size, before=False: told.append((size, before)))
        assert merged is not None
        assert merged.made == 2
        assert [before for _, before in told] == [False, False, True, True, False, False]

    def test_a_full_disk(self, folder: Path) -> None:
        """A disk that is full ends it with one message; with room again the same command goes on."""

        class Full(MergeOps):
            written = 0

            def write(self, fd: int, data: bytes) -> None:
                self.written += 1
                if self.written == 5:
                    raise OSError(errno.ENOSPC, "No space left on device")
                super().write(fd, data)

        with pytest.raises(
            InfrastructureError, match=r"all.jsonl.gz: cannot be written: No space left on device; make room"
        ):
            run_merge(folder, ops=Full())
        run_merge(folder)
        assert READ_BACK["gz"]((folder / "out" / "all.jsonl.gz").read_bytes()) == content(folder)

    def test_a_damaged_file(self, folder: Path) -> None:
        """A committed file whose bytes have changed stops the merge before there is an output; mended, it goes on."""
        path = folder / "tokens" / "3.jsonl"
        good = path.read_bytes()
        path.write_bytes(good.replace(b"[[3,", b"[[4,", 1))
        with pytest.raises(InfrastructureError, match=r"3.jsonl: its bytes are not those that were committed"):
            run_merge(folder)
        assert not (folder / "out" / "all.jsonl.gz").exists()
        path.write_bytes(good)
        merged = run_merge(folder)
        assert merged is not None
        assert merged.made == 2
        assert READ_BACK["gz"]((folder / "out" / "all.jsonl.gz").read_bytes()) == content(folder)


class NoRename(MergeOps):
    """Dies before the output gets its name."""

    def rename(self, source: Path, target: Path) -> None:
        if target.name.startswith("all.jsonl") and not target.name.endswith("index"):
            raise SimulatedCrash
        super().rename(source, target)


class TestOthers:
    @pytest.mark.parametrize("index", [None, "of another file", "empty"])
    def test_a_file_that_is_not_ours(self, folder: Path, index: str | None) -> None:
        """A file that no index vouches for is somebody's data, and stays."""
        run_merge(folder)
        path = folder / "out" / "all.jsonl.gz"
        path.write_bytes(b"" if index == "empty" else b"somebody's")
        if index is None:
            path.with_name("all.jsonl.gz.index").unlink()
        before = tree(folder / "out")
        with pytest.raises(UsageError, match=r"it exists, and no all.jsonl.gz.index vouches for it.* move it away"):
            run_merge(folder)
        assert tree(folder / "out") == before

    def test_a_folder(self, folder: Path) -> None:
        """A folder of that name is no merged file either."""
        (folder / "out" / "all.jsonl").mkdir(parents=True)
        with pytest.raises(UsageError, match=r"no all\.jsonl\.index vouches for it"):
            run_merge(folder, "all.jsonl")

    def test_another_shape(self, folder: Path) -> None:
        """A finished file of one shape is not replaced by another: both may be wanted."""
        run_merge(folder)
        with pytest.raises(UsageError, match=r"made with no --shape, asked for now is --shape higgs: give another name"):
            run_merge(folder, shape="higgs")

    def test_another_run(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """The finished file of one run is not replaced by that of another, though their tars have the same names."""
        other = run_of(tmp_path_factory.mktemp("other"), RECORDS)
        run_merge(folder)
        with pytest.raises(UsageError, match=r"it holds tokens of .*tokens-tars/1.tar, which is not in this run's list"):
            merge(committed_files(other / "tokens"), listed(other / "tokens"), folder / "out" / "all.jsonl.gz")

    def test_one_at_a_time(self, folder: Path) -> None:
        """While a living process is at it, another leaves it alone and says who it is; a dead one's claim is taken over."""
        claim = MergePaths(folder / "out" / "all.jsonl.gz").claim
        claim.parent.mkdir()
        parent = os.getppid()
        living = msgspec.structs.replace(Claim.of_this_process("x"), pid=parent, started=process_start(parent))
        claim.write_bytes(msgspec.json.encode(living))
        with pytest.raises(ClaimLostError, match=f"process {parent} on .* is working on it"):
            run_merge(folder)
        assert tree(folder / "out") == {claim.name: msgspec.json.encode(living)}
        claim.write_bytes(msgspec.json.encode(msgspec.structs.replace(living, started="1")))
        assert run_merge(folder) is not None

    def test_overtaken(self, folder: Path) -> None:
        """A merge that another has taken over stops before it would rename what the other is writing."""
        paths = MergePaths(folder / "out" / "all.jsonl.gz")
        other = msgspec.json.encode(msgspec.structs.replace(Claim.of_this_process("other"), host="elsewhere"))

        def overtake(_size: int, before: bool = False) -> None:
            paths.claim.write_bytes(other)

        with pytest.raises(ClaimLostError, match="another merge has taken it over"):
            run_merge(folder, tell=overtake)
        assert not paths.output.exists()
        assert paths.claim.read_bytes() == other
        assert paths.partial.exists()

    def test_litter_of_the_dead(self, folder: Path) -> None:
        """Parts that a killed merge has left are removed, finished or not."""
        (folder / "out").mkdir()
        (folder / "out" / ".all.jsonl.gz.part-0123-000001").write_bytes(b"x")
        run_merge(folder)
        assert sorted(tree(folder / "out")) == ["all.jsonl.gz", "all.jsonl.gz.index"]
