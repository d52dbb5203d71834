"""jobs/tokenize.py: tars through one conveyor; what is read ahead, and what shares a call, changes no byte."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.mulaw_lanes import LanesMuLaw
from support.small_run import mulaw_spec, small_tar, stopping_after, tokenize, wav, write_tar
from support.waiting import PATIENCE_SECONDS, Waiter

from audio_tokenizers.base import Codes, Waveform
from audio_tokenizers.errors import ClaimLostError, InfrastructureError
from audio_tokenizers.mulaw import FACTORY, MuLaw
from jobs.conveyor import Feeding
from jobs.feed import Feed
from jobs.ledger import Ledger
from jobs.progress import DeviceSeconds
from jobs.spec import TokenizeSpec
from jobs.tar_paths import TarPaths
from jobs.tar_task import TarOptions
from jobs.tokenize import Tokenizer


def committed(output: Path) -> bytes:
    return (output / "speech.jsonl").read_bytes()


class TestLanes:
    """Calls of fixed shapes, in which a clip's tokens depend on the clip and its bucket alone."""

    LENGTHS = tuple(random.Random(1).choice([3000, 5000, 7000, 9000, 4001]) for _ in range(40))

    @pytest.fixture
    def tar(self, tmp_path: Path) -> Path:
        members = {f"{n:03}.wav": wav(length, seed=n) for n, length in enumerate(self.LENGTHS)}
        members["020.wav"] = b"not audio"
        return write_tar(tmp_path / "in" / "speech.tar", members)

    @pytest.fixture
    def spec(self) -> TokenizeSpec:
        """Fragments of half a second, so that the grid has several buckets."""
        return mulaw_spec(max_tokens_per_fragment=8000, num_tokens_overlap=100)

    @pytest.fixture
    def reference(self, tar: Path, spec: TokenizeSpec, tmp_path: Path) -> bytes:
        tokenize(tar, tmp_path / "reference", spec=spec, backend=LanesMuLaw())
        return committed(tmp_path / "reference")

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("buffer_bytes", [1, 100_000, 10**9])
    @pytest.mark.slow
    def test_look_ahead_changes_no_byte(
        self, threads: int, buffer_bytes: int, tar: Path, spec: TokenizeSpec, reference: bytes, tmp_path: Path
    ) -> None:
        """However much is decoded ahead, by however many threads."""
        tokenize(tar, tmp_path / "out", spec=spec, backend=LanesMuLaw(), feeding=Feeding(threads, buffer_bytes))
        assert committed(tmp_path / "out") == reference

    @pytest.mark.parametrize("lines", [1, 7, 20, 21, 39])
    def test_resuming_changes_no_byte(
        self, lines: int, tar: Path, spec: TokenizeSpec, reference: bytes, tmp_path: Path
    ) -> None:
        """Wherever an attempt stopped, and with other neighbours in each call."""
        assert tokenize(tar, tmp_path, spec=spec, backend=LanesMuLaw(), **stopping_after(lines)).manifest.clips == lines
        assert committed_or_partial(tmp_path) == b"".join(reference.splitlines(keepends=True)[:lines])
        tokenize(tar, tmp_path, spec=spec, backend=LanesMuLaw())
        assert committed(tmp_path) == reference

    def test_calls_fill_up(self, tar: Path, spec: TokenizeSpec, tmp_path: Path) -> None:
        """With memory to spare no lane stays empty but in the last call of each bucket."""
        backend = LanesMuLaw()
        tokenize(tar, tmp_path, spec=spec, backend=backend)
        part_empty = [shape for lengths, shape in backend.calls if len(lengths) < shape.lanes]
        assert len(part_empty) == len(set(part_empty)) < len(backend.calls) / 2


def committed_or_partial(output: Path) -> bytes:
    return next(output.glob("speech.jsonl*")).read_bytes()


class TestSeveralTars:
    """The end of one tar and the beginning of the next."""

    def run(self, tars: list[Path], output: Path, backend: Any, **options: Any) -> list[str]:
        """Tokenize them through one conveyor; the names in the order in which they ended."""
        ended: list[str] = []
        left = list(tars)
        with Tokenizer(mulaw_spec(), backend) as tokenizer:
            works = {}
            while len(ended) < len(tars):
                while left and tokenizer.can_begin:
                    tar = left.pop(0)
                    paths = TarPaths(output, tar.stem)
                    works[tokenizer.begin(tar, paths, TarOptions(**options))] = tar.stem
                for one in tokenizer.wait(more=bool(left)):
                    assert one.result().outcome == "committed"
                    ended.append(works[one.work])
        return ended

    def test_they_share_calls(self, tmp_path: Path) -> None:
        """What is left over of a tar waits for the next one's clips, and each tar has its own lines."""
        tars = [small_tar(tmp_path / "in" / f"{n}.tar", clips=6, samples=40 + 10 * n) for n in range(3)]
        backend = LanesMuLaw(lanes=4)
        assert sorted(self.run(tars, tmp_path / "out", backend)) == ["0", "1", "2"]
        assert sum(len(lengths) for lengths, _ in backend.calls) == 15
        assert [len(lengths) for lengths, _ in backend.calls] == [4, 4, 4, 3]
        for tar in tars:
            tokenize(tar, tmp_path / "alone", backend=LanesMuLaw(lanes=4))
            name = f"{tar.stem}.jsonl"
            assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

    def test_each_manifest_has_its_share_of_the_device(self, tmp_path: Path) -> None:
        """The seconds since the tar before ended: over all tars they are what the device has done, and none counts twice."""
        tars = [small_tar(tmp_path / "in" / f"{n}.tar", clips=6) for n in range(3)]
        shares = []
        with Tokenizer(mulaw_spec(), LanesMuLaw(lanes=2)) as tokenizer:
            for tar in tars:
                tokenizer.begin(tar, TarPaths(tmp_path / "out", tar.stem))
                (ended,) = tokenizer.wait()
                shares.append(ended.result().manifest.device_seconds)
            whole = tokenizer.device_time
        total = sum(shares, DeviceSeconds())
        assert all(share.busy > 0 for share in shares)
        for name in ("busy", "audio", "writer"):
            assert getattr(total, name) == pytest.approx(getattr(whole, name), abs=1e-5)

    def test_no_other_tar_beside_one_that_is_searched(self, tmp_path: Path) -> None:
        """One clip at a time means one in the whole worker: or else nobody knows which one killed it."""
        tars = [small_tar(tmp_path / "in" / f"{n}.tar") for n in range(2)]
        backend = LanesMuLaw(lanes=4)
        assert self.run(tars, tmp_path / "out", backend, one_at_a_time=True) == ["0", "1"]
        assert [len(lengths) for lengths, _ in backend.calls] == [1] * 8

    def test_nor_clips_of_one_that_has_failed(self, tmp_path: Path) -> None:
        """A tar is lost with a clip in the device's hands: one that is searched begins when that has gone."""
        lost, searched = (small_tar(tmp_path / "in" / f"{name}.tar") for name in ("lost", "searched"))
        in_hand, gate = threading.Event(), threading.Event()

        class Holding(MuLaw):
            def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
                if len(waves[0]) == 41 and not in_hand.is_set():
                    in_hand.set()
                    assert gate.wait(PATIENCE_SECONDS)
                return super().encode(waves)

        def lose(_record: Any, _used: int) -> None:
            assert in_hand.wait(PATIENCE_SECONDS)
            raise ClaimLostError("another worker has it")

        def take(*arguments: Any, **settings: Any) -> Ledger:
            assert tokenizer._conveyor.idle
            return Ledger.take(*arguments, **settings)

        with Tokenizer(mulaw_spec(), Holding(FACTORY.describe({}, "cpu"))) as tokenizer:
            tokenizer.begin(lost, TarPaths(tmp_path, "lost"), on_progress=lose)
            (ended,) = tokenizer.wait()
            assert isinstance(ended.outcome, ClaimLostError)
            paths, alone = TarPaths(tmp_path, "searched"), TarOptions(one_at_a_time=True)
            beginning = Waiter(lambda: tokenizer.begin(searched, paths, alone, take=take))
            gate.set()
            assert beginning.join() is not None
            (ended,) = tokenizer.wait()
            assert ended.result().outcome == "committed"

    def test_a_tar_that_fails_leaves_the_other_alone(self, tmp_path: Path) -> None:
        """Its partial turns out to be damaged, say: the tar beside it is committed all the same."""
        good, cut = small_tar(tmp_path / "in" / "good.tar"), small_tar(tmp_path / "in" / "cut.tar")
        cut.write_bytes(cut.read_bytes()[:3000])
        outcomes: dict[str, str] = {}
        with Tokenizer(mulaw_spec(), LanesMuLaw(lanes=8)) as tokenizer:
            works = {}
            for tar in (good, cut):
                while not tokenizer.can_begin:
                    assert tokenizer.wait(more=True) == []
                works[tokenizer.begin(tar, TarPaths(tmp_path / "out", tar.stem))] = tar.stem
            while len(outcomes) < 2:
                outcomes |= {works[one.work]: one.result().outcome for one in tokenizer.wait()}
        assert outcomes == {"good": "committed", "cut": "damaged"}

    def test_trouble_with_the_device_is_told_once(self, tmp_path: Path) -> None:
        """By the first tar in hand; the others are left where they are, and all resume."""
        tars = [small_tar(tmp_path / "in" / f"{n}.tar", clips=3) for n in range(2)]

        class Lost(LanesMuLaw):
            def encode_lanes(self, waves: Sequence[Any], shape: Any) -> Any:
                raise InfrastructureError("the GPU is gone")

        outcomes: list[tuple[str, str]] = []
        with Tokenizer(mulaw_spec(), Lost(lanes=8)) as tokenizer:
            works = {}
            for tar in tars:
                while not tokenizer.can_begin:
                    assert tokenizer.wait(more=True) == []
                works[tokenizer.begin(tar, TarPaths(tmp_path / "out", tar.stem))] = tar.stem
            for one in tokenizer.wait():
                try:
                    outcomes.append((works[one.work], one.result().outcome))
                except InfrastructureError as error:
                    outcomes.append((works[one.work], str(error)))
        assert sorted(outcomes) == [("0", "the GPU is gone"), ("1", "yielded")]
        for tar in tars:
            assert tokenize(tar, tmp_path / "out", backend=LanesMuLaw(lanes=8)).outcome == "committed"


def test_trouble_with_the_device_when_all_is_done(tmp_path: Path) -> None:
    """Nothing of the tar is lacking, and it is committed; the next one tells."""
    tars = [small_tar(tmp_path / "in" / f"{n}.tar") for n in range(2)]
    with Tokenizer(mulaw_spec(), FACTORY.load({}, "cpu")) as tokenizer:
        work = tokenizer.begin(tars[0], TarPaths(tmp_path, "0"))
        while not (work.read_to_end and all(clip.finished for clip in work._clips().queue)):
            tokenizer._conveyor.step(PATIENCE_SECONDS)
        tokenizer._conveyor.fail(InfrastructureError("the GPU is gone"))
        (ended,) = tokenizer.wait()
        assert ended.result().outcome == "committed"
        tokenizer.begin(tars[1], TarPaths(tmp_path, "1"))
        (ended,) = tokenizer.wait()
        with pytest.raises(InfrastructureError, match="the GPU is gone"):
            ended.result()


def test_a_stop_waits_for_what_the_device_has_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line is written; clips that are only decoded are dropped, and the next attempt goes on with them."""
    tar = small_tar(tmp_path / "in" / "speech.tar")
    tokenize(tar, tmp_path / "reference")
    in_hand, closed = threading.Event(), threading.Event()
    close = Feed.close

    def close_and_tell(feed: Feed[Any]) -> None:
        close(feed)
        closed.set()

    monkeypatch.setattr(Feed, "close", close_and_tell)

    class Holding(MuLaw):
        encoded = 0

        def encode(self, waves: Sequence[Waveform]) -> list[Codes]:
            self.encoded = len(waves[0])
            if self.encoded == 43:
                in_hand.set()
                assert closed.wait(PATIENCE_SECONDS)
            return super().encode(waves)

    backend = Holding(FACTORY.describe({}, "cpu"))
    result = tokenize(tar, tmp_path / "out", backend=backend, stop=in_hand.is_set)
    reference = committed(tmp_path / "reference")
    assert result.outcome == "yielded"
    assert backend.encoded == 43
    assert committed_or_partial(tmp_path / "out") == b"".join(reference.splitlines(keepends=True)[:4])
    tokenize(tar, tmp_path / "out")
    assert committed(tmp_path / "out") == reference
