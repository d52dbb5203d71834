"""Pure: count, by suffix, members of a tar that may be data but did not become clips."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from audio_tokenizers.shared.wording import counted
from jobs.audio_magic import audio_kind

__all__ = ["data_suffix", "describe_left_out", "leave_out", "sum_left_out"]

MOST_SUFFIXES = 40
"""Suffixes counted per tar; later ones count as OTHERS."""
SUFFIXES_SHOWN = 8
NO_SUFFIX, OTHERS = "(none)", "(others)"
NAMES = {NO_SUFFIX: "no suffix", OTHERS: "others"}
SUFFIX = re.compile(r"[a-z0-9_+~-]{1,16}")

PICTURES = "avif bmp eps gif heic ico jpeg jpg pbm pgm png ppm psd svg tif tiff webp"
WORDS = (
    "adoc ass bib cfg cha cls conf config csv ctl ctm doc docx dtd eaf edf htm html id idx index info ini ipynb json5 jsonl "
    "key labels license list log lrc lst map markdown md meta mlf ndjson nfo odt par pdf phn phonemes phones prompt prompts "
    "properties readme rst rtf rttm sbv scp seg speaker spk srt ssa ssml stm sub tab tei tex text textgrid tg toml topic "
    "trans transcript transcription trn trs tsv uem url utt vad vtt words wrd xls xlsx xml xmp xsd xsl yaml yml"
)
NUMBERS = (
    "ark arrow avro ckpt db egs f0 feather feats h5 hdf5 joblib lmdb mat mdb mfc mfcc msgpack npy npz onnx orc parquet pb "
    "pickle pitch pkl pt pth pyd rds safetensors sqlite sqlite3 tfrecord tfrecords th"
)
PROGRAMS = "bat c cc cpp css cu go h hpp java jl js lock lua m patch php pl pm ps1 py pyc pyi r rb rs sh so sql ts whl"
SUMS = "asc crc crc32 md5 par2 sfv sha sha1 sha256 sha512 sig"
LEFT_BY_PROGRAMS = "aria2 asd bak crdownload cue ds_store lnk m3u m3u8 old orig peak pek pkf pls reapeaks swp temp tmp"
KNOWN = frozenset(" ".join((PICTURES, WORDS, NUMBERS, PROGRAMS, SUMS, LEFT_BY_PROGRAMS)).split())
"""Suffixes known not to be audio."""


def data_suffix(base: str, head: bytes) -> str | None:
    """The suffix to count a file under that did not become a clip; None if it is not worth reporting.

    `base`: its name without folders. `head`: its first audio_magic.HEAD_BYTES. Files that begin like audio are reported
    under any name, others only if their suffix is not known to mean something else.
    """
    stem, dot, suffix = base.rpartition(".")
    suffix = suffix.lower()
    plain = suffix if stem and dot and SUFFIX.fullmatch(suffix) and not suffix.isdecimal() else NO_SUFFIX
    if audio_kind(head) is not None:
        return plain
    return None if plain == NO_SUFFIX or suffix in KNOWN or base.startswith(".") or not head else plain


def leave_out(found: Counter[str], suffix: str) -> None:
    """Count one file, under at most MOST_SUFFIXES suffixes."""
    found[suffix if suffix in found or len(found) < MOST_SUFFIXES else OTHERS] += 1


def sum_left_out(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up the counts of several tars."""
    total: Counter[str] = Counter()
    for found in counts:
        total.update(found)
    return dict(sorted(total.items()))


def describe_left_out(found: Mapping[str, int]) -> str:
    """The counts as text, commonest suffixes first; empty if there are none."""
    if not found:
        return ""
    ranked = sorted(found.items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    shown = [f"{NAMES.get(name, f'.{name}')} {number:,}" for name, number in ranked[:SUFFIXES_SHOWN]]
    more = [f"and {len(ranked) - SUFFIXES_SHOWN} more suffixes"] if len(ranked) > SUFFIXES_SHOWN else []
    members = counted(sum(found.values()), "member")
    was = "was no clip" if sum(found.values()) == 1 else "were no clips"
    return f"{members} {was}: {', '.join([*shown, *more])}: --extensions takes them, or --sniff what begins as audio does"
