"""tools/reporting/clips.py: clips to hear, small, decoded where the codec decodes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from support.committed_runs import BICODEC_FIELDS, make_run, record, some_records, spec_with
from support.envelope import envelope_spec
from support.exported import tokenized_run
from support.small_run import mulaw_spec, small_tar, tokenize, wav, write_tar

from hpc.progress import scan
from hpc.run import Run
from tools.reporting.clips import HeardClip, hear_clips, mp3_uri

PREFIX = "data:audio/mpeg;base64,"


def sound(uri: str) -> tuple[npt.NDArray[np.float64], int]:
    assert uri.startswith(PREFIX)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.removeprefix(PREFIX))))
    return samples, rate


def hear(output: Path, number: int = 5) -> tuple[list[HeardClip], str]:
    run = Run(output)
    return hear_clips(run, mulaw_spec(), list(scan(run, run.listed())), number)


@pytest.mark.slow
def test_original_and_decoded(tmp_path: Path) -> None:
    """Both, with their similarity, the transcript and the first tokens; of a long clip only the beginning."""
    tar = write_tar(tmp_path / "a.tar", {"long.wav": wav(160_000), "long.txt": b"good day"})
    tokenize(tar, tmp_path / "tokens")
    (clip,), fault = hear(tmp_path / "tokens")
    assert (clip.tar, clip.name, clip.text, clip.seconds, fault, clip.fault) == (
        "a.tar",
        "long.wav",
        "good day",
        20.0,
        "",
        "",
    )
    for uri in (clip.original, clip.decoded):
        samples, rate = sound(uri)
        assert rate == 8000
        assert 14.8 < len(samples) / rate < 15.3
    assert clip.similarity is not None
    assert clip.similarity > 20
    assert clip.tokens[0][0] == "tokens"
    assert clip.tokens[0][1].count(",") == 12
    assert len(clip.original) < 60_000


def test_tars_that_are_gone(tmp_path: Path) -> None:
    """Transcript and tokens stay, and the clip says why it has no sound."""
    tar = small_tar(tmp_path / "a.tar")
    tokenize(tar, tmp_path / "tokens")
    tar.unlink()
    clips, fault = hear(tmp_path / "tokens", 2)
    assert (len(clips), fault) == (2, "")
    assert all("cannot be read" in clip.fault and not clip.original and clip.text for clip in clips)


def test_nothing_to_hear(tmp_path: Path) -> None:
    """Not asked for, no clip yet, no spec, and a file that is damaged: each is said instead."""
    output = tmp_path / "tokens"
    make_run(output, {"1": some_records(1), "2": None})
    (output / "1.jsonl").unlink()
    assert hear(output, 0) == ([], "")
    assert hear(output) == ([], "No clip is committed yet.")
    assert "spec" in hear_clips(Run(output), None, [], 1)[1]
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path / "cut")
    (tmp_path / "cut" / "a.jsonl").write_bytes(b"x" * (tmp_path / "cut" / "a.jsonl").stat().st_size)
    assert "is no record" in hear(tmp_path / "cut")[1]


def test_keys_of_a_backend_without_a_decoder(tmp_path: Path) -> None:
    """All keys of the record are shown, and why nothing is decoded."""
    values = {"global_tokens": b"[%s]" % b",".join([b"7"] * 32), "semantic_tokens": b"[1,2,3]"}
    make_run(tmp_path / "tokens", {"1": [record(values)]}, BICODEC_FIELDS)
    run = Run(tmp_path / "tokens")
    spec = msgspec.structs.replace(spec_with(BICODEC_FIELDS), backend="bicodec")
    (clip,), fault = hear_clips(run, spec, list(scan(run, run.listed())), 1)
    assert [key for key, _ in clip.tokens] == ["global_tokens", "semantic_tokens"]
    assert clip.tokens[1][1] == "1, 2, 3"
    assert fault.startswith("Not decoded: ")


@pytest.mark.parametrize(("rate", "written"), [(8000, 8000), (24000, 24000), (18000, 22050), (96000, 48000)])
def test_rates(rate: int, written: int) -> None:
    """A rate that MP3 lacks becomes the next higher one that it has."""
    samples, found = sound(mp3_uri(np.zeros(rate, np.float32), rate))
    assert found == written
    assert abs(len(samples) / found - 1.0) < 0.2


def test_strings_are_cut_and_floats_are_not_tokens(tmp_path: Path) -> None:
    """The first tokens of a string, too: a long clip's are a megabyte. Of features a record has only their place."""
    run = Run(tokenized_run(tmp_path, several_keys=True))
    (clip,), _ = hear_clips(run, envelope_spec(), list(scan(run, run.listed())), 1)
    shown = dict(clip.tokens)
    assert set(shown) == {"tokens", "levels"}
    assert shown["tokens"].startswith("<audio_")
    assert shown["tokens"].endswith(">...")
    assert shown["tokens"].count("<") == 12
