"""tools/show.py: one file or one clip of a run in words, found by whatever name it goes by, and heard."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
import soundfile
from support.envelope import Envelope, envelope_spec
from support.runs import ROOT, call, start
from support.small_run import mulaw_spec, small_tar, tokenize, wav, write_tar

from hpc.run import Run
from jobs.spec import freeze_spec
from tools.show import show
from tools.showing import summary


@pytest.fixture
def run(here: Path) -> Run:
    """A run of three tars: committed, half done, and not begun."""
    run = Run(here / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    tars = [small_tar(here / "data" / f"00000{number}.tar") for number in range(3)]
    run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars[:2]:
        tokenize(tar, run.output_dir)
    half = run.paths("000001")
    lines = half.committed.read_bytes().splitlines(keepends=True)
    half.partial.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    half.committed.unlink()
    return run


def said(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """What the command prints when all is well."""
    assert call(show, *args) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Its one message on wrong usage."""
    assert call(show, *args) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err[len("error: ") : -1]


class TestFile:
    def test_a_committed_one(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """Counts agree with the tar: four clips of 40 to 44 samples at 8 kHz, one code per sample, and a broken one."""
        lines = said(capsys, "000000").splitlines()
        assert lines[0] == "000000: committed"
        assert lines[3:5] == [
            "  clips     5, 1 error among them (decode 1)",
            "  audio     0:00:00 (0.0 s) became tokens, clips of 0.005 to 0.005 s",
        ]
        assert "tokens: 1 codebook, 8,000.0 tokens per second" in lines
        assert [line.split()[:4] for line in lines[-5:]] == [
            ["0", "0.005", "s", "000.wav"],
            ["1", "0.005", "s", "001.wav"],
            ["2", "error", "002.wav", "decode:"],
            ["3", "0.005", "s", "003.wav"],
            ["4", "0.005", "s", "004.wav"],
        ]
        assert lines[-1].endswith("004.wav  clip 4, é 語")

    @pytest.mark.usefixtures("run")
    def test_a_long_one(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal a bar says how far the reading is; what is printed is the same."""
        text = said(capsys, "000000")
        monkeypatch.setattr(summary, "LONG_BYTES", 1)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert call(show, "000000") == 0
        out, err = capsys.readouterr()
        assert out == text
        assert "000000: 100%" in err

    def test_a_partial(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """It says that it is one; whole lines count, the one that is being written does not."""
        text = said(capsys, "000001")
        assert text.startswith("000001: partial, not finished yet\n")
        assert f"  file      {run.paths('000001').partial}\n  clips     3, 1 error among them (decode 1)\n" in text
        assert "damaged" not in text

    def test_a_damaged_one(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """What is wrong is said, and the lines before it are shown."""
        path = run.paths("000000").committed
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:3], b"#" * len(lines[3]), lines[4]]))
        assert "  clips     3, 1 error among them (decode 1)\n  damaged   line 4 is no valid record" in said(
            capsys, "000000"
        )
        path.write_bytes(b"".join(lines[:2]))
        text = said(capsys, "000000")
        assert text.startswith(f"000000: invalid\n  problem   {path}: it has ")
        assert "  clips     2, 0 errors among them\n" in text

    def test_one_that_has_not_begun(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """There is nothing to show, and the message says so."""
        assert refused(capsys, "000002").startswith("000002: not begun yet")

    @pytest.mark.usefixtures("run")
    def test_by_any_name(self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The output's name, its file's or the tar's path, absolute or from here, all mean the same."""
        names = ["000000", "000000.jsonl", "tokens/000000.jsonl", here / "tokens" / "000000.jsonl", "data/000000.tar"]
        assert len({said(capsys, name) for name in names}) == 1
        assert said(capsys, "tokens/000001.jsonl.partial") == said(capsys, "000001")
        (here / "link").symlink_to("tokens")
        monkeypatch.chdir(here / "data")
        assert said(capsys, "000000.tar", "--output-dir", "../link").startswith("000000: committed")
        assert said(capsys, "../tokens/000000.jsonl", "--output-dir", "../link").startswith("000000: committed")

    def test_of_a_run_with_folders(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Names with --keep-dirs hold their folder."""
        run = Run(here / "tokens")
        freeze_spec(run.output_dir, mulaw_spec())
        tars = [small_tar(here / folder / "1.tar") for folder in "ab"]
        run.add_to_list([str(tar) for tar in tars], keep_dirs=True)
        tokenize(tars[0], run.output_dir / "a")
        (run.output_dir / "a" / ".run").rename(here / "elsewhere")
        (here / "elsewhere" / "manifests").rename(run.folder / "manifests")
        (run.folder / "manifests" / "a").mkdir()
        (run.folder / "manifests" / "1.json").rename(run.paths("a/1").manifest)
        assert said(capsys, "a/1").startswith("a/1: committed")
        assert said(capsys, "tokens/a/1.jsonl") == said(capsys, "a/1.tar") == said(capsys, "a/1")
        assert "such as b/1, a/1" in refused(capsys, "1")

    @pytest.mark.usefixtures("run")
    def test_a_name_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Near names are offered; without a run the message says what was expected where."""
        expected = "expected the name of one of its 3 tars, such as 000001, "
        assert expected in refused(capsys, "00001")
        assert "such as 000000, 000001, 000002" in refused(capsys, "nothing.like.it")
        assert "no run here" in refused(capsys, "000000", "--output-dir", "data")


class TestClip:
    @pytest.mark.usefixtures("run")
    def test_by_number_name_and_glob(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each way finds the same clip; several are shown once each, in the tar's order."""
        one = said(capsys, "000000", "--clip", 3)
        assert one.startswith("000000: clip 3\n")
        assert "  member    003.wav\n  duration  0.005 s, 43 samples at 8,000 Hz\n" in one
        assert "  text      clip 3, é 語\n" in one
        assert "tokens: [1, 43], 1 codebook, 8,000.0 tokens per second\n" in one
        assert said(capsys, "000000", "--clip", "003.wav") == said(capsys, "000000", "--clip", "*3.w?v") == one
        several = said(capsys, "000000", "--clip", "00[34].wav", "--clip", 3, "--clip", "000.wav")
        assert [line for line in several.splitlines() if ": clip " in line] == [f"000000: clip {n}" for n in (0, 3, 4)]
        assert "\n  error     decode: not decodable" in said(capsys, "000000", "--clip", 2)
        assert said(capsys, "000001", "--clip", 1).startswith("000001: clip 1\n")

    @pytest.mark.usefixtures("run")
    def test_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A number too high, a name or glob without a clip: each is refused with what there is."""
        for wanted in (5, "0003.wav", "*.flac"):
            message = refused(capsys, "000000", "--clip", wanted)
            assert message.startswith(f"--clip {wanted}: ")
            assert "its 5 clips" in message
            assert ("such as 003.wav" in message) == (wanted == "0003.wav")
        assert "its 3 clips" in refused(capsys, "000001", "--clip", 3)

    def test_of_a_backend_with_floats(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Strings, lists and features each have their words; features are read from beside the lines, if they are whole."""
        run, tar = Run(here / "tokens"), small_tar(here / "a.tar")
        spec = envelope_spec()
        freeze_spec(run.output_dir, spec)
        run.add_to_list([str(tar)], keep_dirs=False)
        tokenize(tar, run.output_dir, spec=spec, backend=Envelope())
        text = said(capsys, "a", "--clip", 1)
        assert "tokens: [41], a string of <audio_N>, 8,000.0 tokens per second\n    first: " in text
        assert "levels: [3], a list, 3 tokens per clip\n" in text
        assert "codes 100 to 355, " in text
        assert "envelope: [5, 2], float16, 2 columns, 975.6 rows per second\n    minimum -" in text
        whole = said(capsys, "a")
        assert "envelope: float16, 2 columns, " in whole
        assert "sum: float32, 1 column, 1 row per clip\n" in whole
        features = run.paths("a").features
        features.write_bytes(features.read_bytes()[:-1] + b"\xff")
        assert "its values cannot be read: " in said(capsys, "a", "--clip", 4)
        run.paths("a").committed.rename(run.paths("a").partial)
        assert "its values can be read when the file is committed" in said(capsys, "a", "--clip", 1)


class TestListen:
    @pytest.mark.usefixtures("run")
    def test_the_original_is_written(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The clip is shown, and heard as it is in its tar; an error's too, as far as there is anything to hear."""
        text = said(capsys, "000000", "--clip", 3, "--listen", "out/3.wav")
        assert text.startswith("000000: clip 3\n")
        assert text.endswith("\nwrote out/3.wav: the original, a copy of the member: 0.005 s, 8,000 Hz, 1 channel\n")
        assert (here / "out" / "3.wav").read_bytes() == wav(43, seed=3)
        assert "002.wav: there is nothing to hear: not decodable" in refused(
            capsys, "000000", "--clip", 2, "--listen", "2.wav"
        )

    def test_another_format(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Decoded at its own rate, which is not the backend's."""
        run = Run(here / "tokens")
        freeze_spec(run.output_dir, mulaw_spec())
        flac = io.BytesIO()
        soundfile.write(flac, soundfile.read(io.BytesIO(wav(4410, 44100)))[0], 44100, format="FLAC")
        tar = write_tar(here / "a.tar", {"1.flac": flac.getvalue()})
        run.add_to_list([str(tar)], keep_dirs=False)
        tokenize(tar, run.output_dir)
        text = said(capsys, "a", "--clip", 0, "--listen", "o.wav")
        assert text.endswith("\nwrote o.wav: the original, decoded: 0.100 s, 44,100 Hz, 1 channel\n")

    def test_a_segment_whose_list_is_no_strict_json(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is found as the run found it."""
        spec, run = mulaw_spec(segments=True), Run(here / "tokens")
        freeze_spec(run.output_dir, spec)
        said_of_it = b'{"snr": NaN, "segments": [{"start": 0, "end": 0.1}]}'
        tar = write_tar(here / "a.tar", {"1.wav": wav(4410), "1.json": said_of_it})
        run.add_to_list([str(tar)], keep_dirs=False)
        tokenize(tar, run.output_dir, spec=spec)
        text = said(capsys, "a", "--clip", "1.wav#0", "--listen", "o.wav")
        assert text.endswith("\nwrote o.wav: the original, decoded: 0.100 s, 8,000 Hz, 1 channel\n")

    @pytest.mark.usefixtures("run")
    def test_wrong_usage(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One clip, and a name that no other file of a run could have."""
        before = sorted(here.rglob("*"))
        for args in (["--listen", "o.wav"], ["--clip", "0", "--listen", "tokens/000000.jsonl"]):
            assert "expected a name that ends in .wav, and the clip to hear as --clip" in refused(capsys, "000000", *args)
        message = refused(capsys, "000000", "--clip", "*", "--listen", "o.wav")
        assert message == "--listen: expected one clip, found clip 0 (000.wav) and clip 1 (001.wav) for --clip *"
        assert sorted(here.rglob("*")) == before

    @pytest.mark.usefixtures("run")
    def test_a_tar_that_is_gone(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The tokens are shown nevertheless."""
        (here / "data" / "000000.tar").unlink()
        assert call(show, "000000", "--clip", 0, "--listen", "o.wav") == 2
        out, err = capsys.readouterr()
        assert out.startswith("000000: clip 0\n")
        assert "there is no such tar any more" in err


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_a_terminal_with_ascii_only(here: Path) -> None:
    """Bars are ASCII, and what else the stream cannot carry comes out as escapes; lines are as wide as the terminal."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "COLUMNS": "70"}
    process = start("tools.show", "000000", cwd=here, env=env)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.isascii()
    assert "@" in next(line for line in out.splitlines() if line.endswith("|"))
    assert "clip 4, \\xe9 \\u8a9e" in out
    assert max(map(len, out.splitlines()[3:-5])) <= 70
