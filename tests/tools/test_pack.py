"""tools/pack.py: a data set becomes tars and a list of them, all of it once, however often the command is stopped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.crashing import CrashingOps, SimulatedCrash
from support.fake_source import AUDIO, FakeSource
from support.runs import ROOT, call, tree, wait_for
from support.small_run import small_tar, wav

from audio_tokenizers.errors import UsageError
from tools.common import whole_files
from tools.pack import pack
from tools.packing import sources, tar_folder
from tools.packing.pairs import LeftOut, SourceOptions

SMALL = ("--max-clips", 2)  # eight clips of FakeSource become four tars


@pytest.fixture
def offer(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeSource], FakeSource]:
    """Makes `tools.pack fake` pack this source."""

    def offered(source: FakeSource) -> FakeSource:
        monkeypatch.setattr(sources, "find_ready_tars", lambda name, **_: None)
        monkeypatch.setattr(sources, "open_source", lambda name, options: source)
        return source

    return offered


Offer = Callable[[FakeSource], FakeSource]


class TestPacking:
    def test_tars_and_their_list(self, offer: Offer, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The list names every tar in order; the summary counts clips and what was left out, which is listed in full."""
        source = offer(FakeSource(8, without_text=(2,)))
        source.left_out.extend(LeftOut("audio_without_text", f"{number}.wav") for number in range(5))
        assert call(pack, "fake", *SMALL) == 0
        out, err = capsys.readouterr()
        listed = (here / "tars" / "tars.txt").read_text().splitlines()
        assert listed == [str(here / "tars" / f"fake-{number:06}.tar") for number in range(len(listed))]
        assert len(listed) > 2
        assert re.search(r"7 clips, 0\.00 hours of audio, in \d+ tars?, [\d.]+ kB in all\n", out)
        assert "Left out, audio without text: 5 (0.wav, 1.wav, 2.wav, ...)\nLeft out, empty text: 1 (002.lab)\n" in out
        lines = [json.loads(line) for line in (here / "tars" / "left_out.jsonl").read_text().splitlines()]
        assert Counter(line["reason"] for line in lines) == {"audio_without_text": 5, "empty_text": 1}
        assert err == ""
        assert sorted(path.name for path in (here / "tars" / ".pack").iterdir() if path.is_dir()) == []

    def test_bad_lines_are_told_at_the_end(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The rest is packed; lines that cannot be read are numbered, and the exit code says that clips are missing."""
        (here / "a.wav").write_bytes(wav(40))
        (here / "x.jsonl").write_text('{"audio_path": "a.wav", "text": "x", "snr": NaN}\n{"audio_path": "b.w\n[]\n')
        for _ in range(2):
            assert call(pack, "x.jsonl") == 1
            out, err = capsys.readouterr()
            assert "1 clip, " in out
            assert "1 clip of these: parts of their annotations are no text or no JSON: `sidecar_errors`" in out
            assert "Left out, unreadable line: 2 (line 2, line 3)" in out
            assert re.search(
                r"x\.jsonl: 2 lines could not be read, and the clips there are missing: 2, 3\. The first: line 2", err
            )
        with tarfile.open(here / "tars" / "x-000000.tar") as tar:
            file = tar.extractfile("a.json")
            assert file is not None
            said = json.loads(file.read())
        assert (said["text"], said["snr"]) == ("x", None)
        assert said["sidecar_errors"] == ["line 1: snr: NaN is no value of JSON: null"]

    def test_a_share_of_the_clips(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A larger share has a smaller one's clips; another ratio for the same tars is refused; so is one of ready tars."""
        for number in range(20):
            (here / "in").mkdir(exist_ok=True)
            (here / "in" / f"{number:02}.wav").write_bytes(wav(40))
        found: list[set[str]] = []
        for ratio in (0.3, 0.6):
            words = ("in", "--without-text", "--subset-ratio", ratio)
            assert call(pack, *words, "--output-dir", str(ratio)) == 0
            with tarfile.open(here / str(ratio) / "in-000000.tar") as tar:
                found.append({name for name in tar.getnames() if name.endswith(".wav")})
            assert f"Left out, outside subset: {20 - len(found[-1])}" in capsys.readouterr().out
        assert set() < found[0] < found[1]
        assert call(pack, *words, "--output-dir", "0.3") == 2
        assert "different: " in (err := capsys.readouterr().err)
        assert "--subset-ratio" in err
        assert call(pack, "0.3", "--subset-ratio", "0.5", "--output-dir", "x") == 2
        assert "hpc.submit --subset-ratio 0.5 tokenizes a share" in capsys.readouterr().err
        for wrong in ("10%", "10"):
            assert call(pack, "in", "--subset-ratio", wrong) == 2
            assert "expected a share" in " ".join(capsys.readouterr().err.split())

    def test_on_finished_work_it_does_nothing(self, offer: Offer, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The same command again reads no clip, changes no file, and says so."""
        source = offer(FakeSource(8))
        assert call(pack, "fake", *SMALL) == 0
        before = tree(here)
        source.asked.clear()
        capsys.readouterr()
        assert call(pack, "fake", *SMALL) == 0
        assert (tree(here), source.asked) == (before, [])
        assert capsys.readouterr().out.startswith("Packed before, nothing to do.\n8 clips")

    def test_number_of_threads_changes_nothing(self, offer: Offer, here: Path) -> None:
        """Bytes do not depend on `--workers`."""
        offer(FakeSource(8))
        for workers in (1, 7):
            assert call(pack, "fake", *SMALL, "--workers", workers, "--output-dir", f"t{workers}") == 0
        one, seven = ({p.name: p.read_bytes() for p in (here / f"t{n}").glob("*.tar")} for n in (1, 7))
        assert one == seven

    @pytest.mark.slow
    def test_stopped_before_and_after_every_step(self, offer: Offer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever durable step the power fails at, the same command goes on at the first clip that no shard has, and the
        files are those of an undisturbed one.
        """
        source = offer(FakeSource(6, without_text=(2,)))
        assert call(pack, "fake", *SMALL, "--output-dir", "calm") == 0
        calm = {path.name: path.read_bytes() for path in (here / "calm").glob("*.tar")}
        step, went_on = 0, set()
        while True:
            for after in (False, True):
                folder = here / f"{step}-{after}"
                ops = CrashingOps(step, after=after)
                with monkeypatch.context() as patched:
                    for module in (whole_files, tar_folder):
                        patched.setattr(module, "FileOps", lambda ops=ops: ops)
                    try:
                        code = call(pack, "fake", *SMALL, "--output-dir", folder)
                    except SimulatedCrash:
                        code = None
                source.asked.clear()
                assert call(pack, "fake", *SMALL, "--output-dir", folder) == 0
                went_on |= set(source.asked)
                assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == calm
                listed = (folder / "tars.txt").read_text()
                assert listed == (here / "calm" / "tars.txt").read_text().replace("/calm/", f"/{folder.name}/")
                assert (folder / "left_out.jsonl").read_bytes() == (here / "calm" / "left_out.jsonl").read_bytes()
            if code == 0:
                break
            step += 1
        assert step > 20
        assert len(went_on) > 2  # not only from the beginning

    def test_a_source_that_fails_on_its_way(self, offer: Offer, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """An archive that turns out to be broken gives one message, and no list that somebody could take for all of it."""
        source = offer(FakeSource(8))
        whole = source.items

        def items(start: int) -> object:
            for number, item in enumerate(whole(start)):
                if number == 6:
                    raise UsageError("x.7z: broken at spk/006.wav: fetch it again")
                yield item

        source.items = items  # type: ignore[method-assign,assignment]
        assert call(pack, "fake", *SMALL) == 2
        assert capsys.readouterr().err == "error: x.7z: broken at spk/006.wav: fetch it again\n"
        assert not (here / "tars" / "tars.txt").exists()

    def test_a_source_that_shrinks(self, offer: Offer, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Fewer clips than were listed are an error, not a smaller data set."""
        source = offer(FakeSource(8))
        whole = source.items
        source.items = lambda start: list(whole(start))[:5]  # type: ignore[method-assign,assignment,return-value]
        assert call(pack, "fake") == 1
        assert "8 clips were listed and 5 came" in capsys.readouterr().err
        assert not (here / "tars" / "tars.txt").exists()


class TestRefused:
    def test_a_source_that_is_not_there_leaves_no_folder(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A slip in the source's name makes no folder, at whatever depth; one that was there stays, and what is in it."""
        assert call(pack, "nope.7z") == 2
        assert call(pack, "nope.7z", "--output-dir", "a/b/c") == 2
        assert "there is no such file or folder" in capsys.readouterr().err
        assert list(here.iterdir()) == []
        (here / "a").mkdir()
        (here / "a" / "mine").write_text("x")
        assert call(pack, "nope.7z", "--output-dir", "a") == 2
        assert [path.name for path in (here / "a").iterdir()] == ["mine"]

    def test_a_folder_with_nothing_in_it(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no file at all the message says so, in words that read."""
        (here / "empty").mkdir()
        assert call(pack, "empty") == 2
        assert "found no file at all. Audio alone" in capsys.readouterr().err
        assert [path.name for path in here.iterdir()] == ["empty"]

    def test_no_pairs(self, offer: Offer, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Zero pairs is an error that says what is there instead."""
        empty = offer(FakeSource(0))
        empty.found = Counter({".mp3": 1200, ".csv": 3})
        empty.left_out.append(LeftOut("audio_without_text", "x.mp3"))
        assert call(pack, "fake") == 2
        assert "found no pair among 1,200 .mp3, 3 .csv; left out: 1 audio without text. Aud" in capsys.readouterr().err
        offer(FakeSource(2, without_text=(0, 1)))
        assert call(pack, "fake") == 2
        assert "left out: 2 empty text" in capsys.readouterr().err
        assert not (here / "tars" / "tars.txt").exists()

    def test_another_data_set_in_the_same_folder(self, offer: Offer, capsys: pytest.CaptureFixture[str]) -> None:
        """A source that has changed since, or other limits, are refused with what differs."""
        source = offer(FakeSource(8))
        assert call(pack, "fake") == 0
        source.fingerprint = "g"
        assert call(pack, "fake", "--max-clips", 3) == 2
        assert "different: the source's files, --max-clips" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_by_signals(here: Path) -> None:
    """A command that is killed three times and run again makes the tars of one that was not."""
    data = here / "data"
    for number in range(300):
        folder = data / f"{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}.wav").write_bytes(wav(4000, seed=number))
        (folder / f"{number:04}.lab").write_text(f"clip {number}")
    command = [sys.executable, "-m", "tools.pack", str(data), "--max-size", "100kB", "--output-dir"]

    def tars_made() -> int:
        return len(list((here / "often").glob("*.tar")))

    for number in (1, 6, 11):
        with subprocess.Popen([*command, str(here / "often")], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            wait_for(partial(lambda number, process: tars_made() >= number or process.poll() is not None, number, process))
            process.kill()
    for name in ("often", "once"):
        subprocess.run([*command, str(here / name)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    often, once = ({p.name: p.read_bytes() for p in (here / name).glob("*.tar")} for name in ("often", "once"))
    assert often == once
    assert len(once) > 20
    assert [path.name for path in (here / "often").iterdir() if path.name.endswith(".new")] == []


def test_options_reach_the_source(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--exclude`, `--without-text` and `--follow-links` are the source's to apply; its scratch folder is empty."""
    seen: list[SourceOptions] = []

    def opened(name: str, options: SourceOptions) -> FakeSource:
        assert list(options.scratch.iterdir()) == []
        seen.append(options)
        return FakeSource(2)

    monkeypatch.setattr(sources, "open_source", opened)
    monkeypatch.setattr(sources, "find_ready_tars", lambda name, **_: None)
    assert call(pack, "fake", "--exclude", "a*", "--exclude", "b", "--without-text") == 0
    assert call(pack, "fake", "--follow-links", "--output-dir", "other") == 0
    found = [(options.exclude, options.without_text, options.follow_links) for options in seen]
    assert found == [(("a*", "b"), True, False), ((), False, True)]
    assert not seen[0].scratch.exists()
    assert AUDIO in (here / "tars" / "fake-000000.tar").read_bytes()


class TestReadyTars:
    def test_they_are_listed_where_they_lie(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """WebDataset tars, such as Emilia's, are read through and listed; nothing is copied."""
        tars = [small_tar(here / "data" / f"{number}.tar") for number in (10, 9)]
        assert call(pack, "data") == 0
        assert (here / "tars" / "tars.txt").read_text().splitlines() == [str(tars[1]), str(tars[0])]
        assert "WebDataset tars already, which stay where they are: 2 tars of 10 clips\n" in capsys.readouterr().out
        assert [path.name for path in (here / "tars").iterdir()] == ["tars.txt"]

    def test_nothing_can_be_left_out_of_them(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A wish that cannot be granted is refused, not forgotten."""
        small_tar(here / "data" / "1.tar")
        assert call(pack, "data", "--exclude", "000") == 2
        assert "--exclude: data is tars already" in capsys.readouterr().err

    def test_a_name_that_no_list_can_hold(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One message, before a list is written that would name another file."""
        small_tar(here / "data" / "1\t2.tar")
        assert call(pack, "data") == 2
        assert "a list takes names in UTF-8, without tabs" in capsys.readouterr().err
        assert not (here / "tars" / "tars.txt").exists()

    def test_a_tar_that_is_cut(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One that is damaged is named before anybody tokenizes it."""
        tar = small_tar(here / "data" / "1.tar")
        tar.write_bytes(tar.read_bytes()[:-2000])
        assert call(pack, "data") == 2
        assert f"{tar}: cut: " in capsys.readouterr().err
        assert not (here / "tars" / "tars.txt").exists()


def test_a_system_file_is_no_transcript(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder whose text is a link to /etc/passwd is refused, and nothing of it is written anywhere."""
    (here / "set").mkdir()
    (here / "set" / "a.wav").write_bytes(AUDIO)
    (here / "set" / "a.txt").symlink_to("/etc/passwd")
    assert call(pack, "set") == 2
    assert "a.txt -> /etc/passwd. If that belongs to the data set, --follow-links" in capsys.readouterr().err
    assert not list(here.glob("tars/*.tar"))
    assert call(pack, "set", "--follow-links") == 0
    assert b"root:" in (here / "tars" / "set-000000.tar").read_bytes()
