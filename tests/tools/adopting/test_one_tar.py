"""tools/adopting/one_tar.py: one tar's lines into the run: committed, or as what the next attempt continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.old_output import adopting_spec, codec_lines, say, whole_tar, write_lines
from support.runs import tree
from support.small_run import tokenize, wav, write_tar

from audio_tokenizers.errors import InfrastructureError
from jobs.claims import Claim, read_claim
from jobs.fileops import FileOps, write_atomically
from jobs.ledger import Ledger
from jobs.records import decode_record
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths, read_manifest
from jobs.tar_task import InputIdentity
from jobs.validation import validate_file
from tools.adopting.line_index import LineIndex, key_of
from tools.adopting.old_lines import read_old_line
from tools.adopting.one_tar import TarAdoption, TarToAdopt, adopt_tar, keys_of_tar
from tools.checking.token_totals import maker_of
from tools.merging.shapes import shape_line

CLIPS = 5


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return whole_tar(tmp_path / "1.tar", CLIPS)


@pytest.fixture
def lines(tar: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """What an old tool made of it."""
    return codec_lines(tar, tmp_path / "reference")


def reference(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "reference" / "1.jsonl").read_bytes().splitlines()]


def adopt(
    tar: Path, lines: Sequence[dict[str, Any]], *, dry_run: bool = False, spec: TokenizeSpec | None = None
) -> TarAdoption:
    """Adopt these lines into the run beside the tar."""
    folder = tar.parent
    (folder / "lines.sqlite").unlink(missing_ok=True)
    old = write_lines(folder / "old.jsonl", lines)
    index = LineIndex(folder / "lines.sqlite", create=True)
    start = 0
    for number, line in enumerate(lines, 1):
        data = say(line)
        index.add_lines([(0, key_of(0, read_old_line(data).name), 0, number, start, len(data))])
        start += len(data)
    index.add_file(0, old)
    index.lines_are_complete()
    task = TarToAdopt(
        number=0,
        tar=str(tar),
        name="1",
        output_dir=folder / "tokens",
        spec=spec or adopting_spec(),
        kind="higgs",
        index=index.path,
        dry_run=dry_run,
    )
    index.add_clips(keys_of_tar(task, lambda _: None))
    index.clips_are_complete()
    index.close()
    return adopt_tar(task, lambda _: None)


def run_on(tar: Path, **settings: Any) -> list[dict[str, Any]]:
    """The lines of the tar after the normal run has continued it."""
    output = tar.parent / "tokens"
    assert tokenize(tar, output, spec=adopting_spec(), **settings).outcome == "committed"
    paths = TarPaths(output, "1")
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    assert validate_file(paths.committed, manifest, adopting_spec()).fault is None
    found = [json.loads(line) for line in paths.committed.read_bytes().splitlines()]
    assert manifest.notes.get("adopted", 0) == sum("notes" in line for line in found)
    assert {path.name for path in output.iterdir()} == {".run", "1.jsonl"}
    assert list((output / ".run" / "attempts").iterdir()) == []
    return found


def without_notes(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "notes"} for line in lines]


def test_a_whole_tar_is_committed(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """Every clip has its line, in the tar's order whatever theirs was; each is marked, and so is the manifest."""
    found = adopt(tar, lines[::-1])
    assert (found.adopted, found.committed, found.problem, sorted(found.used)) == (CLIPS, True, "", [1, 2, 3, 4, 5])
    assert found.adopted_seconds == pytest.approx(sum(range(40, 45)) / 8000)
    paths = TarPaths(tmp_path / "tokens", "1")
    committed = [json.loads(line) for line in paths.committed.read_bytes().splitlines()]
    assert without_notes(committed) == reference(tmp_path)
    assert all(line["notes"] == ["adopted"] for line in committed)
    manifest = read_manifest(paths.manifest)
    assert manifest is not None
    assert (manifest.verdict, manifest.notes) == ("complete", {"adopted": CLIPS})
    assert sum(maker.clips for maker in manifest.made_by) == 0  # no device of this run made them
    assert validate_file(paths.committed, manifest, adopting_spec()).fault is None
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {".run", "1.jsonl"}


@pytest.mark.parametrize("missing", [{0}, {2}, {4}, {0, 4}, {1, 3}, {0, 1, 2, 3}])
def test_the_normal_run_makes_what_is_missing(
    missing: set[int], tar: Path, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Wherever it stands in the tar; what was adopted, before it and after it, is used."""
    found = adopt(tar, [line for number, line in enumerate(lines) if number not in missing])
    assert (found.adopted, found.committed) == (CLIPS - len(missing), False)
    assert found.made_again == {"no_line": len(missing)}
    assert found.examples["no_line"] == f"{min(missing):03}.wav of {tar}: no line names it"
    paths = TarPaths(tmp_path / "tokens", "1")
    assert paths.partial.read_bytes().count(b"\n") == min(missing)
    assert paths.previous.exists() == (CLIPS - 1 not in missing or len(missing) > 1)
    done = run_on(tar)
    assert without_notes(done) == reference(tmp_path)
    assert {number for number, line in enumerate(done) if "notes" not in line} == missing


@pytest.mark.parametrize("missing", [{0}, {2}, {1, 3}])
def test_adopting_again_changes_nothing(missing: set[int], tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """The same lines are there already; new ones are added, and the run still continues all of it."""
    some = [line for number, line in enumerate(lines) if number not in missing]
    adopt(tar, some)
    kept = {path: path.read_bytes() for path in (tmp_path / "tokens").glob("1.jsonl*")}
    found = adopt(tar, some)
    assert (found.adopted, found.there, len(found.used)) == (0, CLIPS - len(missing), len(some))
    assert {path: path.read_bytes() for path in (tmp_path / "tokens").glob("1.jsonl*")} == kept
    found = adopt(tar, lines)
    assert (found.adopted, found.there, found.committed) == (len(missing), CLIPS - len(missing), True)
    assert found.made_again == {}
    committed = [json.loads(line) for line in (tmp_path / "tokens" / "1.jsonl").read_bytes().splitlines()]
    assert without_notes(committed) == reference(tmp_path)
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {".run", "1.jsonl"}


def test_a_partial_of_the_run_is_continued(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """Lines that a worker has made stay its own."""
    written: list[object] = []
    tokenize(
        tar,
        tmp_path / "tokens",
        spec=adopting_spec(),
        one_at_a_time=True,
        on_progress=lambda record, _: written.append(record),
        stop=lambda: len(written) >= 2,
    )
    found = adopt(tar, lines)
    assert (found.adopted, found.there, found.committed) == (CLIPS - 2, 2, True)
    committed = [json.loads(line) for line in (tmp_path / "tokens" / "1.jsonl").read_bytes().splitlines()]
    assert ["notes" in line for line in committed] == [False, False, True, True, True]


def test_retry_errors_keeps_what_was_left(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """The next run may be one with --retry-errors."""
    adopt(tar, [lines[0], lines[2], lines[4]])
    done = run_on(tar, retry_errors=True)
    assert [number for number, line in enumerate(done) if "notes" in line] == [0, 2, 4]


def test_nothing_that_fits_leaves_nothing(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """A tar of which no line can be used is the run's."""
    found = adopt(tar, [{**line, "num_samples": 80_000} for line in lines])
    assert (found.adopted, found.made_again) == (0, {"length": CLIPS})
    assert list((tmp_path / "tokens").glob("*")) == [tmp_path / "tokens" / ".run"]
    assert without_notes(run_on(tar)) == reference(tmp_path)


def test_a_dry_run_writes_nothing(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """It counts."""
    found = adopt(tar, lines[:3], dry_run=True)
    assert (found.adopted, found.made_again, found.committed) == (3, {"no_line": 2}, False)
    assert not (tmp_path / "tokens").exists()


def test_a_committed_tar_and_one_in_work_are_left_alone(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """Another process's result, and its claim."""
    paths = TarPaths(tmp_path / "tokens", "1")
    claim = Claim("0123456789ab", "another-host", 1, "1")
    write_atomically(FileOps(), paths.claim, msgspec.json.encode(claim))
    assert "process 1 on another-host is working on it" in adopt(tar, lines).problem
    assert read_claim(paths.claim) == claim
    paths.claim.unlink()
    run_on(tar)
    before = tree(tmp_path / "tokens")
    assert adopt(tar, lines).problem == "1: another worker has committed it"
    assert tree(tmp_path / "tokens") == before


def test_a_damaged_tar_keeps_what_came_before(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """It is never committed, as in a run; the last group before the damage is not recorded."""
    data = tar.read_bytes()
    tar.write_bytes(data[: 3 * 2048 + 700])
    found = adopt(tar, lines)
    assert (found.adopted, found.committed) == (3, False)
    assert "cut" in found.problem or "ends" in found.problem
    manifest = read_manifest(TarPaths(tmp_path / "tokens", "1").attempt)
    assert manifest is not None
    assert (manifest.verdict, manifest.clips) == ("cut", 3)


def test_a_tar_that_is_gone_is_a_problem_of_its_own(tar: Path, lines: list[dict[str, Any]]) -> None:
    """Other tars go on."""
    tar.unlink()
    for dry_run in (False, True):
        assert adopt(tar, lines, dry_run=dry_run).problem == f"{tar}: cannot be read: No such file or directory"


def test_a_tar_that_is_written_to_meanwhile(
    tar: Path, lines: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is kept: its lines may be of either version."""
    looks = iter([InputIdentity(str(tar), 1, 1, 1), InputIdentity(str(tar), 2, 2, 2)])
    monkeypatch.setattr(InputIdentity, "opened", lambda _: next(looks))
    found = adopt(tar, lines)
    assert (found.adopted, found.committed, found.problem) == (0, False, f"{tar}: it was written to meanwhile")
    assert list((tmp_path / "tokens").glob("*.jsonl*")) == []


def test_a_partial_of_other_clips_is_left_to_the_run(tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """A run finds out that a partial is another tar's, and begins anew; adoption touches nothing of it."""
    renamed = [{**line, "audio_file": f"other{number}"} for number, line in enumerate(reference(tmp_path))]
    paths = TarPaths(tmp_path / "tokens", "1")
    ledger = Ledger.take(paths, InputIdentity.opened(tar), adopting_spec().fingerprint, adopting_spec().fields)
    for line in renamed[:2]:
        data = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
        ledger.append(decode_record(data), (data,))
    ledger.release()
    before = paths.partial.read_bytes()
    assert "its partial in the run is of other clips" in adopt(tar, lines).problem
    assert paths.partial.read_bytes() == before


def test_a_full_disk_ends_it(tar: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tar would meet it: one message with the run's folder, and the claim is given back."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ledger, "append", full)
    with pytest.raises(InfrastructureError, match="tokens: cannot be written: No space left"):
        adopt(tar, lines)
    assert not TarPaths(tar.parent / "tokens", "1").claim.exists()


def test_lines_after_a_gap_survive_a_kill(
    tar: Path, lines: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the lines after a gap have both names: they are made again, and nothing is wrong."""

    class Killed(BaseException):
        pass

    for stop in range(4):
        monkeypatch.undo()
        for path in (tmp_path / "tokens").rglob("*"):
            if path.is_file():
                path.unlink()
        calls = iter(range(100))
        rename = FileOps.rename

        def killing(self: FileOps, source: Path, target: Path, stop: int = stop, calls: Any = calls) -> None:
            if "previous" in target.name and next(calls) == stop:
                raise Killed
            rename(self, source, target)  # noqa: B023

        monkeypatch.setattr(FileOps, "rename", killing)
        try:
            adopt(tar, [lines[0], lines[2], lines[3]])
        except Killed:
            assert stop < 2
        monkeypatch.undo()
        assert without_notes(run_on(tar)) == reference(tmp_path)


@pytest.mark.parametrize("missing", [set(), {0}, {2, 4}])
def test_a_run_of_a_share_takes_lines_of_its_clips_alone(
    missing: set[int], tar: Path, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    """--subset-ratio: the tar has the lines that the run itself gives it, whichever of them are adopted."""
    spec = msgspec.structs.replace(adopting_spec(), subset_ratio=0.6)
    assert tokenize(tar, tmp_path / "alone", spec=spec).outcome == "committed"
    alone = [json.loads(line) for line in (tmp_path / "alone" / "1.jsonl").read_bytes().splitlines()]
    assert 0 < len(alone) < CLIPS
    some = [line for number, line in enumerate(lines) if number not in missing]
    found = adopt(tar, some, spec=spec)
    assert found.adopted == len({line["audio_file"] for line in some} & {line["audio_file"] for line in alone})
    if not found.committed:
        tokenize(tar, tmp_path / "tokens", spec=spec)
    manifest = read_manifest(TarPaths(tmp_path / "tokens", "1").manifest)
    assert manifest is not None
    assert (manifest.clips, manifest.outside_subset) == (len(alone), CLIPS - len(alone))
    committed = [json.loads(line) for line in (tmp_path / "tokens" / "1.jsonl").read_bytes().splitlines()]
    assert without_notes(committed) == alone


@pytest.mark.parametrize("missing", [set(), {4}, {0}, {1, 3}])
def test_adopted_lines_have_no_maker(missing: set[int], tar: Path, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """What made their tokens is not known: the machine that adopted them did not, nor the one that continued the tar."""
    adopt(tar, [line for number, line in enumerate(lines) if number not in missing])
    if missing:
        run_on(tar)
    manifest = read_manifest(TarPaths(tmp_path / "tokens", "1").manifest)
    assert manifest is not None
    assert sum(maker.clips for maker in manifest.made_by) == len(missing)
    assert maker_of(manifest) is None


def test_names_in_folders(tmp_path: Path) -> None:
    """Old tools kept a member's whole name, or its last part, which may be that of several members."""
    names = ["a/x.wav", "b/x.wav", "b/y.wav", "z.wav", "c/z.wav"]
    tar = write_tar(tmp_path / "1.tar", {name: wav(40 + n, seed=n) for n, name in enumerate(names)})
    lines = codec_lines(tar, tmp_path / "reference")
    assert adopt(tar, lines, dry_run=True).made_again == {"ambiguous": 1}  # z.wav may mean c/z.wav
    based = [{**line, "audio_file": line["audio_file"].rpartition("/")[2]} for line in lines]
    found = adopt(tar, based, dry_run=True)
    assert (found.adopted, found.made_again) == (1, {"ambiguous": 4})
    dotted = [{**line, "audio_file": f"./{line['audio_file']}"} for line in lines]
    assert adopt(tar, dotted, dry_run=True).adopted == 4


def test_shapes_of_ours_come_back(tar: Path, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """What merge --shape higgs writes is adopted whole."""
    run = (tmp_path / "reference" / "1.jsonl").read_bytes().splitlines(keepends=True)
    shaped = [shape_line("higgs", line) for line in run]
    assert adopt(tar, [json.loads(line) for line in shaped], dry_run=True).adopted == CLIPS
