"""tools/showing/original_clip.py: a clip is found again in its tar and written as WAV, or one message says why not."""

from __future__ import annotations

import errno
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.small_run import wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise, pyav_file

from audio_tokenizers.errors import InfrastructureError, UsageError
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.parts import Cutting
from tools.common.rereading import Rereading
from tools.showing import original_clip as module
from tools.showing.original_clip import Original, write_original


def write(tar: Path, index: int, name: str, output: Path, *, tar_bytes: int | None = None) -> Original:
    return write_original(tar, index, name, output, how=Rereading(AUDIO_EXTENSIONS), tar_bytes=tar_bytes)


def test_a_wav_is_copied(tmp_path: Path) -> None:
    """The member's very bytes, whatever stands in its chunks, and whatever its name says it is."""
    data = wav(50) + b"LIST\x04\0\0\0INFO"
    tar = write_tar(tmp_path / "a.tar", {"0.flac": wav(7), "1.txt": b"text", "1.flac": data})
    assert write(tar, 1, "1.flac", tmp_path / "o.wav", tar_bytes=tar.stat().st_size) == Original(8000, 1, 50, untouched=True)
    assert (tmp_path / "o.wav").read_bytes() == data


@pytest.mark.parametrize(
    ("kind", "subtype", "bits"), [("FLAC", "PCM_16", 16), ("FLAC", "PCM_24", 24), ("AIFF", "PCM_16", 16)]
)
def test_another_format_is_decoded_without_loss(tmp_path: Path, kind: str, subtype: str, bits: int) -> None:
    """All channels at the file's own rate, sample for sample."""
    name = f"a/1.{kind.lower()}"
    data = audio_file(noise(3000, channels=3), 44100, kind, subtype)
    tar = tmp_path / "a.tar.gz"
    tar.write_bytes(gzip.compress(member(b"a/0.wav", wav(9)) + member(name.encode(), data) + end_blocks()))
    assert write(tar, 1, name, tmp_path / "o.wav") == Original(44100, 3, 3000, untouched=False)
    (tmp_path / "in").write_bytes(data)
    samples = [soundfile.read(tmp_path / path, dtype="int32")[0] for path in ("in", "o.wav")]
    assert np.array_equal(*samples)
    assert samples[0].any()
    assert not (samples[0] & ((1 << (32 - bits)) - 1)).any()


def test_what_soundfile_cannot_read(tmp_path: Path) -> None:
    """m4a comes by PyAV; so does a WAV that was written to a pipe, whose header states no length that players believe."""
    wave = noise(8000, seed=1)
    piped = bytearray(audio_file(wave, 16000, subtype="PCM_16"))
    piped[4:8] = piped[40:44] = bytes(4)
    tar = write_tar(
        tmp_path / "a.tar", {"0.m4a": pyav_file(wave, 16000, "mp4", "aac", bit_rate=128000), "1.wav": bytes(piped)}
    )
    made = write(tar, 0, "0.m4a", tmp_path / "o.wav")
    assert (made.sample_rate, made.channels, made.untouched) == (16000, 1, False)
    heard = soundfile.read(tmp_path / "o.wav")[0]
    assert abs(len(heard) - 8000) <= 2048
    assert heard.std() == pytest.approx(wave.std(), rel=0.5)
    assert write(tar, 1, "1.wav", tmp_path / "o.wav") == Original(16000, 1, 8000, untouched=False)


def test_linked_clips_and_clips_found_by_their_first_bytes(tmp_path: Path) -> None:
    """Both are heard as what they are, in tars put end to end too; a file from when links were no clips counts otherwise."""
    data = [member(b"a", wav(30)), link_member(b"b.wav", b"a"), member(b"c.wav", wav(50)), end_blocks()]
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"".join([*data, *data]))
    cases: list[tuple[int, str, int, dict[str, Any]]] = [
        (0, "a", 30, {"sniff": True}),
        (4, "b.wav", 30, {"sniff": True}),
        (2, "b.wav", 30, {}),
        (1, "c.wav", 50, {}),
        (1, "c.wav", 50, {"follow_links": False}),
    ]
    for index, name, samples, settings in cases:
        original = write_original(
            tar, index, name, tmp_path / "o.wav", how=Rereading(AUDIO_EXTENSIONS, **settings), tar_bytes=None
        )
        assert original.samples == samples
        (tmp_path / "o.wav").unlink()


def test_of_clips_of_one_name_the_right_one(tmp_path: Path) -> None:
    """The clip's place in the tar decides."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"".join(member(b"same.wav", wav(samples)) for samples in (10, 20, 30)) + end_blocks())
    assert [write(tar, index, "same.wav", tmp_path / "o.wav").samples for index in range(3)] == [10, 20, 30]


def test_a_long_search_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar says how much of the tar has been read."""
    tar = write_tar(tmp_path / "a.tar", {f"{number}.wav": wav(4000) for number in range(5)})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    write(tar, 4, "4.wav", tmp_path / "o.wav")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "LONG_BYTES", 1)
    write(tar, 4, "4.wav", tmp_path / "o.wav")
    assert "looking for 4.wav: " in capsys.readouterr().err


class TestWhatCannotBeHad:
    def refused(self, tar: Path, index: int, name: str, *, tar_bytes: int | None = None) -> str:
        """The message; a file that was there before stays as it was, and nothing is left beside it."""
        folder = tar.parent / "out"
        folder.mkdir()
        (folder / "o.wav").write_bytes(b"old")
        with pytest.raises(UsageError) as error:
            write(tar, index, name, folder / "o.wav", tar_bytes=tar_bytes)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"o.wav": b"old"}
        assert str(error.value).startswith(f"{tar}: ")
        return str(error.value)[len(f"{tar}: ") :]

    def test_of_a_tar_that_is_gone(self, tmp_path: Path) -> None:
        """The tar is named, and what to do."""
        assert self.refused(tmp_path / "a.tar", 0, "0.wav") == "there is no such tar any more: copy it back to hear 0.wav"

    def test_of_a_tar_that_has_changed(self, tmp_path: Path) -> None:
        """Another size, another clip in its place and too few clips are told from one another."""
        tar = write_tar(tmp_path / "a" / "a.tar", {"0.wav": wav(10)})
        size = tar.stat().st_size
        expected = f"it had 99,999 bytes when it was tokenized, and has {size:,} now: it is another tar"
        assert self.refused(tar, 0, "0.wav", tar_bytes=99_999) == expected
        tar = write_tar(tmp_path / "b" / "a.tar", {"0.wav": wav(10)})
        assert self.refused(tar, 0, "1.wav").startswith("expected 1.wav as its clip 0, found 0.wav: the tar has changed")
        tar = write_tar(tmp_path / "c" / "a.tar", {"0.wav": wav(10)})
        assert self.refused(tar, 1, "1.wav").startswith(
            "expected 1.wav as its clip 1, found fewer clips: the tar has changed"
        )

    def test_of_a_tar_that_is_cut(self, tmp_path: Path) -> None:
        """A clip beyond the cut cannot be had, one before it can."""
        tar = write_tar(tmp_path / "a.tar", {"0.wav": wav(10), "1.wav": wav(5000)})
        tar.write_bytes(tar.read_bytes()[:4000])
        assert self.refused(tar, 1, "1.wav").startswith("cannot be read as far as 1.wav: the file ends at byte 4,000")
        assert write(tar, 0, "0.wav", tmp_path / "o.wav").samples == 10

    def test_of_a_damaged_member_what_is_left(self, tmp_path: Path) -> None:
        """All that can be decoded can be heard."""
        tar = write_tar(tmp_path / "a.tar", {"0.flac": audio_file(noise(300_000), kind="FLAC")[:-60_000]})
        assert 200_000 < write(tar, 0, "0.flac", tmp_path / "o.wav").samples < 300_000

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("0.wav", b"not audio", "0.wav: there is nothing to hear: not decodable: "),
            ("0.wav", b"", "0.wav: there is nothing to hear: the file is empty (0 bytes)"),
            ("0.wav", wav(0), "0.wav: there is nothing to hear: the file has no samples"),
            ("0.flac", audio_file(noise(300_000), kind="FLAC")[:60], "0.flac: there is nothing to hear: "),
        ],
    )
    def test_of_a_member_that_is_no_audio(self, tmp_path: Path, name: str, data: bytes, words: str) -> None:
        """The decoder's own words are in the message, and nothing is written."""
        assert self.refused(write_tar(tmp_path / "a.tar", {name: data}), 0, name).startswith(words)

    def test_of_a_tar_that_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Trouble with the disk is said to be that, and what is no tar is told from it."""
        with pytest.raises(UsageError, match="expected a tar, found a folder"):
            write(tmp_path, 0, "0.wav", tmp_path / "o.wav")
        tar = write_tar(tmp_path / "a.tar", {"0.wav": b""})

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("jobs.tar_source._LocalFile", fail)
        with pytest.raises(InfrastructureError, match=r"cannot be read: Input/output error$"):
            write(tar, 0, "0.wav", tmp_path / "o.wav")

    def test_of_a_sparse_member(self, tmp_path: Path) -> None:
        """One that cannot be given back is named as what it is."""
        tar = tmp_path / "a.tar"
        tar.write_bytes(member(b"x", b"23 GNU.sparse.size=700\n", b"x") + member(b"0.wav", bytes(512)) + end_blocks())
        assert self.refused(tar, 0, "0.wav").startswith("0.wav: there is nothing to hear: a sparse file that cannot be")

    def test_of_a_link_that_leads_nowhere(self, tmp_path: Path) -> None:
        """The message says where it leads."""
        tar = tmp_path / "a.tar"
        tar.write_bytes(link_member(b"0.wav", b"no.wav") + end_blocks())
        assert self.refused(tar, 0, "0.wav").startswith("0.wav: there is nothing to hear: a hard link to no.wav: there is")


def test_a_part_of_a_member(tmp_path: Path) -> None:
    """A segment, or a channel, is cut out of it; one that cannot be cut says so."""
    data = audio_file(noise(8000, 2), 8000, subtype="PCM_16")
    wave = soundfile.read(io.BytesIO(data), dtype="int16")[0]
    said = b'{"segments": [{"start": 0.1, "end": 0.2}, {"start": 3, "end": 1}, {"start": 5, "end": 6}]}'
    tar = write_tar(tmp_path / "a.tar", {"a.wav": data, "a.json": said, "b.wav": data})
    both = Cutting(segments=True, channels=True)
    for cutting, index, name, expected in (
        (Cutting(segments=True), 0, "a.wav#0", wave[800:1600]),
        (Cutting(segments=True), 3, "b.wav", wave),
        (Cutting(channels=True), 1, "a.wav#1", wave[:, 1]),
        (both, 7, "b.wav#1", wave[:, 1]),
        (both, 1, "a.wav#0#1", wave[800:1600, 1]),
    ):
        output = tmp_path / "o.wav"
        write_original(tar, index, name, output, how=Rereading(AUDIO_EXTENSIONS, cutting=cutting), tar_bytes=None)
        assert np.array_equal(soundfile.read(output, dtype="int16")[0], expected)
    for index, words in ((1, "before it begins"), (2, r"ends at 1\.000 s")):
        with pytest.raises(UsageError, match=rf"a\.wav#{index}: there is nothing to hear: .*{words}"):
            write_original(
                tar,
                index,
                f"a.wav#{index}",
                tmp_path / "x.wav",
                how=Rereading(AUDIO_EXTENSIONS, cutting=Cutting(segments=True)),
                tar_bytes=None,
            )


def test_parts_of_links_and_of_members_without_extension(tmp_path: Path) -> None:
    """They are cut out of what the link leads to, wherever that stands, and of what begins as audio."""
    data = audio_file(noise(8000, 2), 8000, "FLAC", "PCM_16")
    wave = soundfile.read(io.BytesIO(data), dtype="int16")[0]
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"".join([link_member(b"a.flac", b"b", b"2"), member(b"b", data), end_blocks()]))
    for index, name in enumerate(("a.flac#0", "a.flac#1", "b#0", "b#1")):
        made = write_original(
            *(tar, index, name, tmp_path / "o.wav"),
            how=Rereading(AUDIO_EXTENSIONS, sniff=True, cutting=Cutting(channels=True)),
            tar_bytes=None,
        )
        assert made == Original(8000, 1, 8000, untouched=False)
        assert np.array_equal(soundfile.read(tmp_path / "o.wav", dtype="int16")[0], wave[:, index % 2])


def test_a_part_of_a_damaged_member(tmp_path: Path) -> None:
    """What there is of it can be heard, as of a whole one."""
    data = audio_file(noise(300_000, 2), kind="FLAC", subtype="PCM_16")[:-60_000]
    tar = write_tar(tmp_path / "a.tar", {"a.flac": data})
    made = write_original(
        *(tar, 1, "a.flac#1", tmp_path / "o.wav"),
        how=Rereading(AUDIO_EXTENSIONS, cutting=Cutting(channels=True)),
        tar_bytes=None,
    )
    assert 200_000 < made.samples < 300_000
