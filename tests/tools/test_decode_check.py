"""tools/decode_check.py: committed tokens back to audio, beside the originals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.lossy import damaged_tar, use_lossy_decode
from support.runs import ROOT, call
from support.small_run import BAD_CLIP, mulaw_spec, small_tar, spec_of, tokenize, wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise
from support.tiny_hf import build

from audio_tokenizers import hf, mulaw
from hpc.run import Run
from jobs.spec import TokenizeSpec, freeze_spec, make_spec
from tools.decode_check import decode_check
from tools.listening import comparison


def make_run(folder: Path, tars: list[Path], spec: TokenizeSpec, backend: Any) -> Run:
    run = Run(folder / "tokens")
    freeze_spec(run.output_dir, spec)
    run.add_to_list([str(tar) for tar in tars], keep_dirs=False)
    for tar in tars:
        tokenize(tar, run.output_dir, spec=spec, backend=backend)
    return run


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks as small as these run many times as fast on one thread as on several that wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(here: Path) -> Run:
    """Two committed tars of mu-law tokens, each with four clips and an error."""
    tars = [small_tar(here / "data" / f"00000{number}.tar", samples=4000) for number in (1, 2)]
    return make_run(here, tars, make_spec("mulaw", device="cpu"), mulaw.FACTORY.load({}, "cpu"))


def wavs() -> list[str]:
    return sorted(path.name for path in Path("decode_check").iterdir())


@pytest.mark.usefixtures("run")
def test_clips_are_written_beside_their_originals(capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs of WAV files at the backend's rate, and a line for each with its lengths and a high SI-SDR: mu-law is good."""
    assert call(decode_check, "--clips", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*("original", "s", "decoded", "s", "difference", "s", "SI-SDR", "dB"), "clip"]
    assert wavs() == [f"{number:03}.{what}.wav" for number in (1, 2, 3) for what in ("decoded", "original")]
    for number, line in enumerate(lines[1:4], 1):
        _, original, decoded, difference, ratio, tar, clip = line.split()
        assert (original, difference) == (decoded, "+0.000")
        assert float(ratio) > 30
        assert (tar[:4], clip[-4:]) == ("0000", ".wav")
        waves = [soundfile.read(f"decode_check/{number:03}.{what}.wav") for what in ("original", "decoded")]
        assert [rate for _, rate in waves] == [8000, 8000]
        assert np.corrcoef(waves[0][0], waves[1][0])[0, 1] > 0.99
    assert lines[4] == "3 of 3 clips decoded to the right length, within 2 frames of 0.000125 s"


@pytest.mark.parametrize("cut", [{"channel": "right"}, {"channel": "split"}, {"segments": True}], ids=str)
def test_clips_are_heard_as_the_run_heard_them(cut: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The channel that was chosen, and the part of the member that is the clip; whatever its sidecar looks like."""
    data = audio_file(noise(4000, 2), 8000, subtype="PCM_16")
    said = b'{"dnsmos": NaN, "segments": [{"start": 0.2, "end": 0.4}, {"start": 0.1, "end": 0.3}]}'
    tar = write_tar(here / "data" / "1.tar", {"a.wav": data, "b.wav": data, "a.json": said})
    make_run(here, [tar], spec_of("mulaw", device="cpu", **cut), mulaw.FACTORY.load({}, "cpu"))
    assert call(decode_check, "--clips", 9) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    ratios = [float(line.split()[4]) for line in lines[: {"right": 2, "split": 4}.get(cut.get("channel", ""), 3)]]
    assert min(ratios) > 30


def test_parts_of_links_of_clips_without_extension_and_of_damaged_ones(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is found as the run found it, and compared with what it heard of it."""
    data = audio_file(noise(30_000, 2), 8000, "FLAC", "PCM_16")
    tar = here / "1.tar"
    members = [link_member(b"a.flac", b"b", b"2"), member(b"b", data), member(b"c.flac", data[:-9000]), end_blocks()]
    tar.write_bytes(b"".join(members))
    spec = spec_of("mulaw", device="cpu", sniff=True, channel="split", max_damage=1.0)
    make_run(here, [tar], spec, mulaw.FACTORY.load({}, "cpu"))
    assert call(decode_check, "--clips", 9) == 0
    out = capsys.readouterr().out
    assert "6 of 6 clips decoded to the right length" in out
    assert min(float(line.split()[4]) for line in out.splitlines()[1:7]) > 30


@pytest.mark.usefixtures("run")
def test_the_seed_decides_which_clips(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed picks the same clips, another one others, and never a clip that became an error."""
    outputs = []
    for seed in (0, 0, 1):
        assert call(decode_check, "--clips", 3, "--seed", seed) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert call(decode_check, "--clips", 100) == 0
    everything = capsys.readouterr().out
    assert "8 of 8 clips" in everything
    assert f"{BAD_CLIP:03}.wav" not in everything
    assert sum(line.endswith(".wav") and ".tar: " in line for line in everything.splitlines()) == 8


@pytest.mark.slow
def test_a_codec_of_transformers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model of the run is found by its spec; what it decodes to has the clip's length within two frames."""
    model = build(here / "model", "encodec")
    spec = make_spec("hf", device="cpu", options={"model_path": str(model)})
    tar = write_tar(here / "a.tar", {f"{n}.wav": wav(4000 + n, rate=16000, seed=n) for n in range(2)})
    make_run(here, [tar], spec, hf.FACTORY.load(spec.options, "cpu"))
    assert call(decode_check, "--device", "cpu") == 0
    assert "2 of 2 clips decoded to the right length" in capsys.readouterr().out
    other = build(here / "other", "encodec", seed=1)
    assert call(decode_check, "--device", "cpu", "--model-path", other) == 2
    assert "expected the model that gave these tokens (weights_sha256" in capsys.readouterr().err
    model.rename(here / "moved")
    assert call(decode_check, "--device", "cpu", "--model-path", here / "moved") == 0


@pytest.mark.usefixtures("run")
def test_another_length_is_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """More than two frames off, values that are no numbers, and tokens that cannot be decoded all exit 1 and are named."""
    decode = mulaw.MuLawDecoder.decode
    for change, words in (
        (lambda self, codes: decode(self, codes)[:-3], "decoded to 3 samples more or less than there were, 3.0 frames"),
        (lambda self, codes: decode(self, codes) * np.float32(np.nan), "decoded to values that are NaN or infinite"),
        (lambda self, codes: decode(self, codes.reshape(5, -1, 7)), "its tokens cannot be decoded"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(mulaw.MuLawDecoder, "decode", change)
            assert call(decode_check, "--clips", 1) == 1
        out = capsys.readouterr().out
        assert f"001: {words}" in out
        assert "0 of 1 clip decoded" in out
    with monkeypatch.context() as patch:
        patch.setattr(mulaw.MuLawDecoder, "decode", lambda self, codes: decode(self, codes)[:-2])
        assert call(decode_check, "--clips", 1) == 0


def test_of_a_long_clip_the_beginning_is_heard(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip of hours costs no more memory than its first minute; its whole length is compared nevertheless."""
    monkeypatch.setattr(comparison, "HEARD_SECONDS", 0.25)
    assert call(decode_check, "--clips", 1) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[3] == "+0.000"
    assert [soundfile.info(f"decode_check/001.{what}.wav").frames for what in ("original", "decoded")] == [2000, 2000]


def test_audio_that_is_not_there_any_more(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips of a tar that was exchanged or has gone since are named; the others are decoded."""
    tar = here / "data" / "000001.tar"
    stat = tar.stat()
    members = {f"{n:03}.wav": wav(4000 + n, rate=16000 if n == 0 else 8000, seed=n) for n in (0, 1)}
    write_tar(tar, members)
    tar.write_bytes(tar.read_bytes()[:-1024] + bytes(stat.st_size - tar.stat().st_size + 1024))
    os.utime(tar, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert call(decode_check, "--clips", 8) == 1
    out = capsys.readouterr().out
    assert "its audio has 2,000 samples now, its record says 4,000" in out
    assert out.count("its tar has another clip there now") == 2
    assert "5 of 8 clips" in out
    (here / "data" / "000002.tar").unlink()
    assert call(decode_check, "--clips", 8) == 1
    assert capsys.readouterr().out.count("its tar cannot be read now") == 4


def test_nothing_to_decode(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run, or nothing committed in it, is one message."""
    assert call(decode_check) == 2
    assert "no run here yet" in capsys.readouterr().err
    freeze_spec(here / "tokens", make_spec("mulaw", device="cpu"))
    assert call(decode_check) == 2
    assert "no committed clip with tokens yet" in capsys.readouterr().err


def test_a_damaged_file_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A committed file of the right size whose lines are no records is named, with the command that says more."""
    path = run.paths("000001").committed
    path.write_bytes(path.read_bytes().replace(b'{"tar_file"', b'{"tar_fill"'))
    code = call(decode_check, "--clips", 100)
    err = capsys.readouterr().err
    assert (code, "000001.jsonl: line" in err, "--check-validity" in err) == (2, True, True)


@pytest.mark.usefixtures("run")
def test_a_full_disk_is_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the file and the cause."""
    (here / "decode_check").mkdir()
    (here / "decode_check" / "001.original.wav").symlink_to("/dev/full")
    assert call(decode_check) == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.usefixtures("run")
def test_a_backend_without_a_way_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One message that names the backends that can."""
    monkeypatch.delattr(mulaw.MuLawFactory, "load_decoder")
    assert call(decode_check) == 2
    assert "mulaw has no decoder from tokens to audio; these backends have one: hf, higgs" in capsys.readouterr().err


@pytest.mark.slow
def test_help_needs_no_torch() -> None:
    """--help answers without torch, transformers or soundfile."""
    script = (
        "import sys, runpy\n"
        "for name in ('torch', 'transformers', 'soundfile', 'soxr'): sys.modules[name] = None\n"
        "sys.argv = ['decode_check', '--help']\n"
        "runpy.run_module('tools.decode_check', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "--wav-dir" in done.stdout) == (0, True), done.stderr


def test_damaged_clips(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that was kept though something of it is missing is compared with what the run heard of it."""
    use_lossy_decode(monkeypatch)
    make_run(here, [damaged_tar(here / "a.tar")], mulaw_spec(), mulaw.FACTORY.load({}, "cpu"))
    assert call(decode_check, "--clips", 5) == 0
    assert "5 of 5 clips decoded to the right length" in capsys.readouterr().out
