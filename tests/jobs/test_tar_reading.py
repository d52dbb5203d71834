"""jobs/tar_reading.py: how the thread that reads a tar ends, and how far in the tar a clip is. Tars: test_tar_work.py."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from support.small_run import mulaw_spec, small_tar, tokenize, wav
from support.waiting import PATIENCE_SECONDS, Waiter, until

from audio_tokenizers.mulaw import FACTORY
from jobs.clip_group import Clip
from jobs.conveyor import Conveyor, Feeding
from jobs.feed import Share
from jobs.pending import Pending
from jobs.tar_format import TarStream
from jobs.tar_paths import TarPaths
from jobs.tar_work import TarWork
from jobs.token_sink import TokenSink


@pytest.mark.parametrize("call", ["__init__", "__iter__", "read"])
def test_a_stop_does_not_wait_for_a_file_system_that_hangs(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader is left behind, and the claim given back. When the disk answers, what it has read goes nowhere."""
    tar = small_tar(tmp_path / "in" / "speech.tar")
    tokenize(tar, tmp_path / "reference")
    hangs, answers = threading.Event(), threading.Event()
    plain = getattr(TarStream, call)

    def hang(*args: Any, **settings: Any) -> Any:
        hangs.set()
        assert answers.wait(PATIENCE_SECONDS)
        return plain(*args, **settings)

    def readers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]

    monkeypatch.setattr("jobs.tar_reading.READER_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(TarStream, call, hang)
        result = tokenize(tar, tmp_path / "out", stop=hangs.is_set)
        assert (result.outcome, result.manifest.clips, len(readers())) == ("yielded", 0, 1)
        assert not list((tmp_path / "out" / ".run" / "claims").iterdir())
        answers.set()
        until(lambda: not readers())
    tokenize(tar, tmp_path / "out")
    assert (tmp_path / "out" / "speech.jsonl").read_bytes() == (tmp_path / "reference" / "speech.jsonl").read_bytes()


def test_an_attempt_ends_whatever_its_reader_waits_for(tmp_path: Path) -> None:
    """The memory is full of another tar's clips, for whose lines the calling thread has no time: its reader is let go."""
    tar = small_tar(tmp_path / "in" / "speech.tar", clips=40)
    conveyor = Conveyor(mulaw_spec(), FACTORY.load({}, "cpu"), Feeding(buffer_bytes=1000))
    try:
        feed, others = conveyor._feed, Share()
        assert feed.reserve(others, 1000)
        other = Pending(Clip(0, "other.wav", io.BytesIO(wav(40))), TokenSink(1))
        waiter = Waiter(lambda: conveyor.offer(other))
        until(lambda: feed._blocked == 1)
        work = TarWork(tar, TarPaths(tmp_path / "out", "speech"), mulaw_spec(), conveyor)
        work.start()
        until(lambda: feed._blocked == 2)
        assert Waiter(work.leave).join().outcome == "yielded"
        assert feed._blocked == 1
    finally:
        conveyor.close()
    waiter.join()
