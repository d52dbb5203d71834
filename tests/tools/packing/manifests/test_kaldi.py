"""tools/packing/manifests/kaldi.py: Kaldi folders as sources of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.sentences import SENTENCES

from audio_tokenizers.errors import UsageError
from tools.packing.manifests.kaldi import open_kaldi
from tools.packing.manifests.source import ManifestSource
from tools.packing.pairs import LeftOut, Pair, SourceOptions


def options(*, without_text: bool = False) -> SourceOptions:
    return SourceOptions(without_text=without_text, scratch=Path("scratch"))


def write(folder: Path, *names: str) -> None:
    """Files, each with its name as content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def read(source: ManifestSource) -> list[Pair | LeftOut]:
    return [item() for item in source.items(0)]


def left_out(source: ManifestSource) -> list[tuple[str, str]]:
    return [(left.name, left.reason) for left in source.left_out]


def pair(clip_id: str, name: str, text: str | None, **more: Any) -> Pair:
    return Pair(id=clip_id, audio_name=name, audio=name.encode(), size=len(name.encode()), text=text, **more)


def kaldi(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, "utf-8")
    return folder


def test_kaldi(tmp_path: Path) -> None:
    """Clips in the order of wav.scp, with the text and the speaker of their names; what has no other half is listed."""
    write(tmp_path, "wavs/1 one.wav", "2.wav", "3.wav", "4.wav")
    source = open_kaldi(
        kaldi(
            tmp_path,
            wav_scp=f"utt2  {tmp_path}/2.wav\nutt1\twavs/1 one.wav\nutt3 3.wav\nutt4 4.wav\nutt2 3.wav\n",
            text="utt1 GO  DO\nutt2\t二\nutt4\nutt9 NOBODY\n",
            utt2spk="utt1 spk1\n",
        ),
        options(),
    )
    assert read(source) == [
        pair("utt2", "2.wav", "二"),
        pair("utt1", "wavs/1 one.wav", "GO  DO", metadata={"speaker": "spk1"}),
    ]
    assert [(left.name, left.reason, left.detail) for left in source.left_out] == [
        ("utt3", "audio_without_text", "line 3 of wav.scp"),
        ("utt4", "empty_text", "line 4 of wav.scp"),
        ("utt2", "duplicate", "line 5 of wav.scp: an earlier line with this id is taken"),
        ("utt9", "text_without_audio", "line 4 of text"),
    ]
    assert source.name == tmp_path.name


def test_kaldi_in_another_encoding(tmp_path: Path) -> None:
    """A table's encoding is told from all of its lines."""
    write(tmp_path, *(f"{number}.wav" for number in range(6)))
    (tmp_path / "wav.scp").write_text("".join(f"u{number} {number}.wav\n" for number in range(6)))
    lines = [f"u{number} {sentence}\n" for number, sentence in enumerate(SENTENCES["ko"])]
    (tmp_path / "text").write_bytes("".join(lines).encode("euc_kr"))
    assert [item.text for item in read(open_kaldi(tmp_path, options())) if isinstance(item, Pair)] == list(SENTENCES["ko"])
    (tmp_path / "text").write_bytes(b"u0 \xff\xff\n")
    with pytest.raises(UsageError, match=r"text: line 1: too little text to tell.*--text-encoding"):
        open_kaldi(tmp_path, options())


def test_kaldi_without_text(tmp_path: Path) -> None:
    """A wav.scp alone is enough where audio without text is wanted, and is an error where it is not."""
    write(tmp_path, "1.wav")
    kaldi(tmp_path, wav_scp="utt1 1.wav\n")
    with pytest.raises(UsageError, match="expected `text` beside"):
        open_kaldi(tmp_path, options())
    assert read(open_kaldi(tmp_path, options(without_text=True))) == [pair("utt1", "1.wav", None)]


def test_audio_that_comes_out_of_commands(tmp_path: Path) -> None:
    """No command of a data set is run: such entries are named, with their segments, and the rest is packed."""
    write(tmp_path, "1.wav", "r.wav")
    folder = kaldi(
        tmp_path,
        wav_scp="utt1 1.wav\nutt2 touch PROOF; cat 2.wav |\nrec r.wav\nutt3 sph2pipe -f wav 3.sph|\n",
        text="utt1 ONE\nutt2 TWO\ns1 S\ns3 T\n",
        segments="s1 rec 0 1\ns3 utt3 0 1\n",
    )
    source = open_kaldi(folder, options())
    assert [(item.id, item.text) for item in read(source) if isinstance(item, Pair)] == [("utt1", "ONE"), ("rec", None)]
    assert left_out(source) == [
        ("utt2", "unreadable_audio"),
        ("utt3", "unreadable_audio"),
        ("s3", "text_without_audio"),
    ]
    assert "line 2 of wav.scp: utt2 comes out of a command, and commands" in source.left_out[0].detail
    assert source.left_out[2].detail == "of utt3, which comes out of a command"
    kaldi(tmp_path, wav_scp="utt1 cat 1.wav |\n")
    with pytest.raises(UsageError, match=r"line 1 of wav\.scp: utt1 comes out of a command.*never run: write the audio to"):
        open_kaldi(folder, options())
    assert not (tmp_path / "PROOF").exists()


def test_lines_that_cannot_be_read(tmp_path: Path) -> None:
    """In any of the tables one bad line is one bad line, which the command ends with."""
    write(tmp_path, "1.wav", "2.wav")
    kaldi(tmp_path, wav_scp="utt1 1.wav\nutt2\nutt3 2.wav\n")
    for name in ("text", "utt2spk"):
        (tmp_path / name).write_bytes(b"utt1 A\nutt3 \xff\xff\n")
    source = open_kaldi(tmp_path, options())
    assert read(source) == [pair("utt1", "1.wav", "A", metadata={"speaker": "A"})]
    assert left_out(source) == [
        ("utt3", "audio_without_text"),
        ("line 2 of text", "unreadable_line"),
        ("line 2 of utt2spk", "unreadable_line"),
        ("line 2 of wav.scp", "unreadable_line"),
    ]


def test_kaldi_with_segments(tmp_path: Path) -> None:
    """The recording stays whole, and has the utterances with their times, texts and speakers; what makes none is listed."""
    write(tmp_path, "r1.wav", "r2.wav")
    folder = kaldi(
        tmp_path,
        wav_scp="rec1 r1.wav\nrec2 r2.wav\n",
        segments="utt2 rec1 2.5 4\nutt1 rec1 0.0 1.25\nutt3 rec1 4 x\nutt4 rec9 0 1\nutt5 rec1 5 6\nutt6\n",
        text="utt1 ONE\nutt2 TWO\nutt3 THREE\nutt4 FOUR\nutt7 SEVEN\n",
        utt2spk="utt1 A\nutt2 B\n",
    )
    source = open_kaldi(folder, options())
    parts = [
        {"id": "utt1", "start": 0.0, "end": 1.25, "text": "ONE", "speaker": "A"},
        {"id": "utt2", "start": 2.5, "end": 4.0, "text": "TWO", "speaker": "B"},
    ]
    assert read(source) == [pair("rec1", "r1.wav", None, metadata={"segments": parts})]
    assert sorted(left_out(source)) == [
        ("rec2", "audio_without_text"),
        ("utt3", "unreadable_text"),
        ("utt4", "text_without_audio"),
        ("utt5", "audio_without_text"),
        ("utt6", "unreadable_text"),
        ("utt7", "text_without_audio"),
    ]
