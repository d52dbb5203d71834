"""A voice data set as people have it: a solid 7z of .wav and .lab pairs, 48 kHz, mono and stereo, in three encodings."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tools.packing.archives.sevenzip import PROGRAMS

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech"
RATE = 48000
ENCODINGS = ("utf-8", "utf-8-sig", "gb18030")
PLACEHOLDER = "带变量语音 - Placeholder"


@dataclass(frozen=True)
class Original:
    """One pair of the archive."""

    id: str
    text: str
    frames: int
    """At 48 kHz."""
    audio: bytes


def originals(pairs: int, frames: int) -> list[Original]:
    """Pieces of the speech examples, of about `frames` each, every one another."""
    waves = []
    for path in sorted(SPEECH.iterdir()):
        if path.suffix in (".wav", ".flac"):
            wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
            waves.append(soxr.resample(wave[:, 0], rate, RATE))
    speech = np.concatenate(waves)
    found = []
    for number in range(pairs):
        length = frames + 17 * (number % 97)
        start = (number * 7919) % (len(speech) - 2 * length)
        wave = speech[start : start + length]
        if number % 2:
            wave = np.stack([wave, speech[start + 31 : start + 31 + length]], axis=1)
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, format="WAV", subtype="PCM_16")
        name = f"中文 - Chinese/角色{number % 20:02}/vo_{number:05}"
        found.append(Original(name, f"第{number}句话只说一遍。", length, file.getvalue()))
    return found


def seven_zip() -> str:
    """The 7-Zip of this machine. Raises FileNotFoundError."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no 7-Zip here: as root: apt-get install 7zip")


def write_solid_7z(archive: Path, pairs: list[Original], folder: Path) -> None:
    """The archive, by way of the files in `folder`; with a few files that are no pairs."""
    for number, pair in enumerate(pairs):
        path = folder / f"{pair.id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pair.audio)
        path.with_suffix(".lab").write_bytes(f"{pair.text}\n".encode(ENCODINGS[number % len(ENCODINGS)]))
    (folder / PLACEHOLDER).mkdir()
    (folder / PLACEHOLDER / "vo_x.wav").write_bytes(pairs[0].audio)
    (folder / PLACEHOLDER / "vo_x.lab").write_text("{NICKNAME}")
    (folder / "alone.wav").write_bytes(pairs[0].audio)
    (folder / "alone too.lab").write_text("x")
    (folder / "readme.html").write_text("x" * 1000)
    command = [seven_zip(), "a", "-ms=on", "-mx=1", "-bso0", "-bsp0", str(archive.absolute()), "."]
    subprocess.run(command, cwd=folder, check=True)
