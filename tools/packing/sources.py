"""Finds out what SOURCE is: an existing path, or else a data set on the Hugging Face hub."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audio_tokenizers.errors import UsageError
from audio_tokenizers.shared.extras import install_words
from audio_tokenizers.shared.wording import counted
from jobs.audio_formats import AUDIO_EXTENSIONS
from jobs.tar_format import TarDamage, looks_joined
from jobs.tar_reader import TarReader
from jobs.text_rules import TextRules
from tools.common.tar_finding import find_tars
from tools.packing.archives.formats import ARCHIVE_ENDINGS, open_archive, open_archive_of_volumes
from tools.packing.archives.shar import open_shar, shar_shards
from tools.packing.archives.tar_archive import table_in
from tools.packing.archives.volumes import first_volumes, is_volume
from tools.packing.boundary import Boundary, refuse_links
from tools.packing.folder import FolderSource, Listing, list_folder, read_trouble
from tools.packing.layouts.lhotse import is_lhotse_table
from tools.packing.pairs import PACKED, Source, SourceOptions

__all__ = ["ReadyTar", "check_ready_tar", "find_ready_tars", "open_source"]

MANIFESTS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""NeMo's are called manifest.json, and also have an object per line."""
PARQUET, TAR, KALDI = ".parquet", ".tar", "wav.scp"
HUB_ADDRESS = re.compile(
    r"(hf://|https://huggingface\.co/).+|[a-z0-9][\w.-]*/[a-z0-9][\w.-]*(@.+)?", re.ASCII | re.IGNORECASE
)
KINDS = (
    "a folder of audio and texts, of .tar or of .parquet files; a Kaldi folder with wav.scp; an archive "
    f"({', '.join(ARCHIVE_ENDINGS)}, .7z.001); a manifest (.jsonl, .jsonl.gz); a .parquet file; or owner/name of a data "
    "set on the Hugging Face hub"
)


def open_source(source: str, options: SourceOptions) -> Source:
    """List the data set `source`. Raises UsageError with all supported kinds if it is none."""
    path, mode = _look_at(source)
    if mode is not None:
        return _open_folder(path, options) if stat.S_ISDIR(mode) else _open_file(path, options)
    if not HUB_ADDRESS.fullmatch(source) or source.lower().endswith((*ARCHIVE_ENDINGS, *MANIFESTS, PARQUET)):
        raise UsageError(f"{source}: there is no such file or folder; expected {KINDS}")
    try:
        return _hugging_face().open_hub(source, options)
    except UsageError as error:
        if not path.parent.is_dir():
            raise
        raise UsageError(f"{error}; nor is there a file or folder {path}") from None


def _look_at(source: str) -> tuple[Path, int | None]:
    """(absolute path, mode); mode is None if nothing is there. Raises UsageError and InfrastructureError."""
    path = Path(source).expanduser() if source.startswith("~/") else Path(source)
    path = Path(os.path.normpath(path.absolute()))  # not resolve: its name becomes the tars' name
    try:
        return (
            path,
            path.stat().st_mode if source else None,
        )  # empty, as by an unset variable, does not mean the current folder
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return path, None
    except OSError as error:
        raise read_trouble(path, error) from error


class _HuggingFace(Protocol):
    """tools/packing/parquet/hugging_face.py."""

    def open_parquet(self, paths: list[Path], name: str, options: SourceOptions) -> Source: ...

    def open_hub(self, repo_id: str, options: SourceOptions) -> Source: ...


def _hugging_face() -> _HuggingFace:
    try:
        from tools.packing.parquet import hugging_face
    except ImportError as error:
        raise UsageError(f"Parquet files and the hub need {error.name}: {install_words('pack')}") from None
    return hugging_face


def _open_folder(path: Path, options: SourceOptions) -> Source:
    if (path / KALDI).exists():
        from tools.packing.manifests.kaldi import open_kaldi

        return open_kaldi(path, options)
    if (path / PACKED).resolve() in options.scratch.resolve().parents:
        raise UsageError(f"--output-dir {path}: is SOURCE itself, whose files would then be part of it: choose another")
    listing = list_folder(path, follow_links=options.follow_links)
    if not any(_is_audio(name) for name in listing.files):
        return _open_without_audio(path, listing, options) or FolderSource(listing, options)
    return FolderSource(listing, options)


def _open_without_audio(path: Path, listing: Listing, options: SourceOptions) -> Source | None:
    """A folder whose audio is inside other files, or elsewhere; None for other folders."""

    def refuse_outside(names: Iterable[str]) -> None:
        refuse_links(path, {name: listing.outside[name] for name in names if name in listing.outside})

    volumes = first_volumes(name for name in listing.files if "/" not in name)
    if volumes:
        if len(volumes) > 1:
            raise UsageError(f"{path}: expected the volumes of one archive, found {', '.join(volumes)}: give one of these")
        refuse_outside(name for name in listing.files if is_volume(name))
        return open_archive_of_volumes(path / volumes[0], options)
    shards = shar_shards(listing.files)
    if shards:
        refuse_outside(name for shard in shards for name in (shard.cuts, shard.recordings))
        return open_shar(path, shards, options)
    tables = {name: Path(listing.path(name)) for name in listing.files if is_lhotse_table(name.rpartition("/")[2])}
    if tables:
        from tools.packing.manifests.lhotse_source import open_lhotse

        return open_lhotse(tables, path, path.name or "data", options)
    parquet = sorted(name for name in listing.files if name.lower().endswith(PARQUET))
    if parquet:
        refuse_outside(parquet)
        return _hugging_face().open_parquet([Path(listing.path(name)) for name in parquet], path.name or "data", options)
    return None


def _is_audio(name: str) -> bool:
    return name.rpartition(".")[2].lower() in AUDIO_EXTENSIONS


def _open_file(path: Path, options: SourceOptions) -> Source:
    name = path.name.lower()
    if name.endswith(ARCHIVE_ENDINGS):
        return open_archive(path, options)
    if is_volume(name):
        return open_archive_of_volumes(path, options)
    if is_lhotse_table(path.name):
        from tools.packing.manifests.lhotse_source import open_lhotse_file

        return open_lhotse_file(path, options)
    if name.endswith(MANIFESTS):
        from tools.packing.manifests.source import open_jsonl

        return open_jsonl(path, options)
    if name.endswith(PARQUET):
        return _hugging_face().open_parquet([path], path.stem, options)
    if name == KALDI:
        from tools.packing.manifests.kaldi import open_kaldi

        return open_kaldi(path.parent, options)
    raise UsageError(f"{path}: not a kind of data set that can be packed; expected {KINDS}")


@dataclass(frozen=True, slots=True)
class ReadyTar:
    """What a WebDataset tar holds."""

    clips: int
    without_text: int


def find_ready_tars(source: str, *, follow_links: bool = False, texts: TextRules | None = None) -> list[Path] | None:
    """The tars that `source` is: one .tar, or a folder with .tar files at any depth and no audio or Parquet beside them.

    They are already as tools.pack makes them (Emilia's are). Sorted, numbers by value. None for anything else, such as a
    tar whose texts are not next to the audio. Raises UsageError if links lead out of the folder.
    """
    path, mode = _look_at(source)
    if mode is None:
        return None
    if not stat.S_ISDIR(mode):
        return [path] if path.name.lower().endswith(TAR) and _is_webdataset(path, texts or TextRules()) else None
    for _, _, names in os.walk(path):
        if any(_is_audio(name) or name.endswith(PARQUET) for name in names) or shar_shards(names):
            return None
    tars = find_tars(path, f"**/*{TAR}")
    boundary = Boundary(path)
    if not follow_links:
        outside = {str(tar): target for tar in tars if (target := boundary.outside(str(tar))) is not None}
        refuse_links(path, outside)
    return tars or None


def _is_webdataset(path: Path, texts: TextRules) -> bool:
    """Whether all texts in a tar are next to their audio. A damaged tar counts as one.

    The run's rules decide what is a text, and of which audio: `1.mp3.json` with a `transcript` counts. If some are apart, a
    run would scan the whole tar for them at each reading; packing puts them next to each other.
    """
    try:
        with TarReader(path, skip_clips=sys.maxsize, texts=texts) as reader:
            if any(clip.annotations.text is not None and not reader.sidecars_apart for clip in reader):
                return True
        return not reader.orphan_sidecars and not reader.sidecars_apart and table_in(path) is None
    except TarDamage:
        return True
    except OSError as error:
        raise read_trouble(path, error) from error


def check_ready_tar(path: Path, texts: TextRules) -> ReadyTar:
    """Read a tar to its end, without audio. Raises UsageError if it is damaged, or its texts are not next to the audio."""
    clips = without_text = 0
    try:
        with TarReader(path, skip_clips=sys.maxsize, texts=texts) as reader:
            for clip in reader:
                clips += 1
                without_text += not (clip.annotations.text or "").strip()
    except TarDamage as damage:
        advice = "copy it again from its source"
        if looks_joined(damage.verdict, str(damage)):
            advice = "make one tar of it: unpack it with tar --ignore-zeros -xf and pack that"
        raise UsageError(f"{path}: {damage.verdict}: {damage}; {advice}, or leave it out") from None
    except OSError as error:
        raise read_trouble(path, error) from error
    if clips and without_text == clips and (table := table_in(path)) is not None:
        raise UsageError(
            f"{path}: expected a WebDataset tar, in which each text stands next to its audio, found "
            f"{counted(clips, 'clip')} without text and {table}, which may have the texts: pack it by itself"
        )
    if clips and without_text == clips and reader.orphan_sidecars:
        raise UsageError(
            f"{path}: expected a WebDataset tar, in which each text stands next to its audio, found "
            f"{counted(clips, 'clip')} without text and {counted(reader.orphan_sidecars, 'text')} without audio: pack it "
            "by itself"
        )
    return ReadyTar(clips, without_text)
