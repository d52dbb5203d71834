from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.mulaw_lanes import LanesMuLaw

from benchmarks.agreement import clips_of
from benchmarks.common import encoded
from benchmarks.ways import memory, pipeline, resampler, usual_way, write_tar
from jobs.spec import make_spec


@pytest.fixture
def files() -> list[bytes]:
    return [encoded(wave, 16000, "flac") for wave in clips_of(16000, 3, (0.5, 1.0))]


def test_the_pipeline_s_figures_are_those_of_its_calls(tmp_path: Path, files: list[bytes]) -> None:
    """How full the lanes were, as the backend saw it; the rate is of all clips of the tar, which are all written."""
    spec = make_spec("mulaw", device="cpu")
    backend = LanesMuLaw(lanes=2)
    tar = write_tar(tmp_path / "a.tar", files, 2)
    found: dict[str, Any] = pipeline(spec, backend, tar, tmp_path / "tokens", "cpu", 1)
    real = sum(sum(lengths) for lengths, _ in backend.calls)
    assert found["clips"] == 6
    assert found["fill"] == real / sum(shape.lanes * shape.samples for _, shape in backend.calls)
    assert found["audio_seconds"] == pytest.approx(real / spec.sample_rate)
    assert found["rate"] == pytest.approx(found["audio_seconds"] / found["seconds"])
    assert 0 < found["busy"] <= 1
    assert len((tmp_path / "tokens" / "a.jsonl").read_text().splitlines()) == 6


def test_a_clip_that_fails_is_no_figure(tmp_path: Path, files: list[bytes]) -> None:
    """A rate over clips that gave no tokens would be a lie."""
    tar = write_tar(tmp_path / "a.tar", [*files, b"no audio"], 1)
    with pytest.raises(RuntimeError, match="1 errors"):
        pipeline(make_spec("mulaw", device="cpu"), LanesMuLaw(), tar, tmp_path / "tokens", "cpu", 1)


def test_the_usual_way_ends_with_its_time(tmp_path: Path, files: list[bytes]) -> None:
    """After one clip at least."""
    tar = write_tar(tmp_path / "a.tar", files, 2)
    heard: list[int] = []

    def upstream(wave: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        heard.append(len(wave))
        return {"tokens": np.zeros((1, 2), np.int64), "mid": np.zeros((1, 2), np.float16)}

    _, audio = usual_way(tar, upstream, resampler(LanesMuLaw()), 0.0)
    assert len(heard) == 1
    assert audio == pytest.approx(heard[0] / 8000, abs=1e-3)
    usual_way(tar, upstream, resampler(LanesMuLaw()), 1000.0)
    assert len(heard) == 7


def test_tars_repeat_their_clips(tmp_path: Path, files: list[bytes]) -> None:
    """Each under a name of its own, so that a worker takes them for different ones."""
    with tarfile.open(write_tar(tmp_path / "a.tar", files, 2)) as archive:
        members = archive.getmembers()
        assert len({member.name for member in members}) == 6
        again = archive.extractfile(members[4])
        assert again is not None
        assert again.read() == files[1]


@pytest.mark.slow
def test_peaks_are_those_within_the_block() -> None:
    """What was held and given back before does not count; on a CPU there is no figure of a GPU."""
    with memory("cpu") as first:
        io.BytesIO(b"1" * 300_000_000)
    with memory("cpu") as second:
        pass
    assert first["host_bytes"] > second["host_bytes"] + 200_000_000
    assert "gpu_bytes" not in second
