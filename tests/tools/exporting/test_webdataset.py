"""tools/exporting/webdataset.py: what webdataset reads and decodes is what the run holds, with the audio as it was."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
from support.committed_runs import make_run
from support.exported import TARS, by_tar, code_records, same, tokenized_run
from support.small_run import mulaw_spec, tokenize, wav, write_tar
from support.tars import audio_file, end_blocks, link_member, member, noise

from audio_tokenizers.base import Field
from hpc.run import Run
from jobs.spec import freeze_spec
from tools.common.run_files import committed_files, spec_of
from tools.exporting.webdataset import write_webdataset

CODES = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)


def written(run: Path, folder: Path, **settings: bool) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for file in committed_files(run):
        paths.append(folder / f"{file.name}.tar")
        write_webdataset(file, paths[-1], spec_of(run), lambda _: None, **settings)
    return paths


def read(tar: Path) -> list[dict[str, Any]]:
    with tar.open("rb") as stream:  # what WebDataset(...).decode() does, but for the opening: it never closes what it opens
        members = webdataset.tariterators.tar_file_expander([{"url": str(tar), "stream": stream}])
        return list(webdataset.filters.decode()(webdataset.tariterators.group_by_keys(members)))


@pytest.mark.parametrize("several_keys", [False, True])
def test_round_trip(several_keys: bool, tmp_path: Path) -> None:
    """Its default decoders give a sample per clip, in order, with the arrays and the rest of the record."""
    run = tokenized_run(tmp_path, several_keys=several_keys)
    clips = by_tar(run)
    for tar in written(run, tmp_path / "out"):
        samples = read(tar)
        assert [sample["__key__"] for sample in samples] == ["000", "001", "003", "004"]
        for sample, clip in zip(samples, clips[tar.stem], strict=True):
            assert same({key.removesuffix(".npy"): value for key, value in sample.items()}, clip)
            assert sample["json"] == {
                key: getattr(clip, key) for key in ("tar_file", "audio_file", "num_samples", "sample_rate", "text")
            }
    assert len(clips) == len(TARS)


def test_audio_is_what_stood_in_the_tar(tmp_path: Path) -> None:
    """With --with-audio each clip has its file beside its tokens, byte for byte; a clip with an error shifts none."""
    run = tokenized_run(tmp_path)
    for file, tar in zip(committed_files(run), written(run, tmp_path / "out", with_audio=True), strict=True):
        samples = read(tar)
        with tarfile.open(file.tar) as original:
            for sample in samples:
                member = original.extractfile(sample["json"]["audio_file"])
                assert member is not None
                assert sample["wav"] == member.read()
        assert len(samples) == 4


def test_audio_of_links_and_of_clips_without_extension(tmp_path: Path) -> None:
    """A linked clip has the audio that it leads to, and one that was found by its first bytes the extension they say."""
    flac = audio_file(noise(400), 8000, "FLAC")
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"".join([member(b"a", flac), link_member(b"b.flac", b"a"), member(b"c.wav", wav(40)), end_blocks()]))
    spec, output = mulaw_spec(sniff=True), tmp_path / "tokens"
    freeze_spec(output, spec)
    Run(output).add_to_list([str(tar)], keep_dirs=False)
    tokenize(tar, output, spec=spec)
    (exported,) = written(output, tmp_path / "out", with_audio=True)
    with tarfile.open(exported) as found:
        audio = {name: found.extractfile(name).read() for name in ("a.flac", "b.flac", "c.wav")}  # type: ignore[union-attr]
    assert audio == {"a.flac": flac, "b.flac": flac, "c.wav": wav(40)}


def test_audio_of_parts_of_links_and_of_clips_without_extension(tmp_path: Path) -> None:
    """Parts are WAV, and members that are clips as a whole have the extension that their first bytes say."""
    flac = audio_file(noise(800), 8000, "FLAC", "PCM_16")
    said = b'{"segments": [{"start": 0, "end": 0.05}, {"start": 0.04, "end": 0.1}]}'
    members = [member(b"a", flac), member(b"a.json", said), link_member(b"b.flac", b"a"), member(b"b.json", said)]
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"".join([*members, member(b"c", flac), link_member(b"d", b"a"), end_blocks()]))
    spec, run = mulaw_spec(sniff=True, segments=True), Run(tmp_path / "tokens")
    freeze_spec(run.output_dir, spec)
    run.add_to_list([str(tar)], keep_dirs=False)
    tokenize(tar, run.output_dir, spec=spec)
    (exported,) = written(run.output_dir, tmp_path / "out", with_audio=True)
    wave = soundfile.read(io.BytesIO(flac), dtype="int16")[0]
    with tarfile.open(exported) as found:
        audio = {name: found.extractfile(name).read() for name in found.getnames() if name.endswith((".wav", ".flac"))}  # type: ignore[union-attr]
    assert {name: data for name, data in audio.items() if name.endswith(".flac")} == {"c.flac": flac, "d.flac": flac}
    parts = {
        name: soundfile.read(io.BytesIO(data), dtype="int16")[0] for name, data in audio.items() if name.endswith(".wav")
    }
    assert list(parts) == ["a#0.wav", "a#1.wav", "b#0.wav", "b#1.wav"]
    assert all(np.array_equal(parts[f"{key}#0.wav"], wave[:400]) for key in "ab")
    assert all(np.array_equal(parts[f"{key}#1.wav"], wave[320:]) for key in "ab")


def test_audio_of_segments_whose_list_is_no_strict_json_and_stands_apart(tmp_path: Path) -> None:
    """The parts are those of the run: its sidecars are read, and found, by its rules."""
    said = '{"snr": NaN, "segments": [{"start": 0, "end": 0.01, "text": "今日はとても良い天気ですね。"}]}'.encode(
        "shift_jis"
    )
    tar = write_tar(tmp_path / "a.tar", {"a.wav": wav(800), "b.wav": wav(50), "a.json": said})
    spec, run = mulaw_spec(segments=True, text_encoding="shift_jis"), Run(tmp_path / "tokens")
    freeze_spec(run.output_dir, spec)
    run.add_to_list([str(tar)], keep_dirs=False)
    tokenize(tar, run.output_dir, spec=spec)
    (exported,) = written(run.output_dir, tmp_path / "out", with_audio=True)
    assert [(sample["__key__"], len(soundfile.read(io.BytesIO(sample["wav"]))[0])) for sample in read(exported)] == [
        *(("a#0", 80), ("b", 50))
    ]


def test_names_with_dots_and_names_that_clash(tmp_path: Path) -> None:
    """Samples do not merge, whatever the clips are called, and each says which file it is from."""
    names = ["s.001.wav", "s.002.wav", "x.wav", "x.flac", "__m__/y.wav", "/abs.wav", f"{'long' * 60}/語.wav"]
    make_run(tmp_path / "run", {"a": code_records(names)}, CODES)
    (tar,) = written(tmp_path / "run", tmp_path / "out")
    samples = read(tar)
    assert [sample["json"]["audio_file"] for sample in samples] == names
    assert [sample["__key__"] for sample in samples][:6] == ["s_001", "s_002", "x", "x-2", "m__/y", "abs"]
    assert all(same({"tokens": s["tokens.npy"]}, c) for s, c in zip(samples, by_tar(tmp_path / "run")["1"], strict=True))


def test_bytes_depend_on_the_run_alone(tmp_path: Path) -> None:
    """The same run gives the same tar again, which ends as tars do."""
    run = tokenized_run(tmp_path, several_keys=True)
    first, second = written(run, tmp_path / "1")[0], written(run, tmp_path / "2")[0]
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(first.read_bytes())) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
    assert first.read_bytes().endswith(bytes(1024))


def test_audio_of_parts(tmp_path: Path) -> None:
    """Each has its own beside its tokens, as WAV."""
    spec = mulaw_spec(channel="split")
    tar = write_tar(tmp_path / "a.tar", {"a.flac": audio_file(noise(100, 2), 8000, "FLAC"), "b.wav": wav(50)})
    run = Run(tmp_path / "run")
    freeze_spec(run.output_dir, spec)
    run.add_to_list([str(tar)], keep_dirs=False)
    tokenize(tar, run.output_dir, spec=spec)
    (exported,) = written(run.output_dir, tmp_path / "out", with_audio=True)
    samples = read(exported)
    assert [(sample["__key__"], len(soundfile.read(io.BytesIO(sample["wav"]))[0])) for sample in samples] == [
        *(("a#0", 100), ("a#1", 100), ("b#0", 50))
    ]
