"""jobs/pending.py: a clip's portions come back in any order, and its line is the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.small_run import mulaw_spec

from audio_tokenizers.base import Codes
from audio_tokenizers.errors import ClipError, InfrastructureError
from jobs.clip_group import Clip
from jobs.clip_journal import MemberSum
from jobs.damage import Damage
from jobs.pending import Pending, Portion
from jobs.token_sink import TokenSink

FIELDS = mulaw_spec().fields
CODES = np.arange(12, dtype=np.uint8)[None]
DAMAGE = Damage(0.01, "a frame")


def a_clip(tokens_in_memory: int = 100) -> Pending:
    return Pending(Clip(0, "a.wav", None), TokenSink(1, tokens_in_memory))


def portions(pending: Pending) -> list[tuple[Portion, Codes]]:
    """Three fragments of 6 frames that overlap by 2 on each side, 12 frames in all, and their codes."""
    found: list[tuple[Portion, Codes]] = []
    for number, (start, head, tail) in enumerate([(0, 0, 2), (2, 2, 2), (4, 2, 0)]):
        wave = np.zeros(6 + 2 * (number == 2), np.float32)
        end = (12, DAMAGE) if number == 2 else ()
        portion = Portion(pending, wave, wave.nbytes, len(wave), number, head, tail, *end)
        found.append((portion, CODES[:, start : start + len(wave)]))
    return found


def take(pending: Pending, portion: Portion, outcome: Codes | ClipError) -> int:
    return pending.encoded(portion, outcome, FIELDS, "mulaw")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_fragments_in_any_order(order: tuple[int, ...]) -> None:
    """Whichever comes first, and be it the last one, which says how many there are: the same codes, finished at the end."""
    pending = a_clip()
    held = 0
    for number in order:
        assert not pending.finished
        held += take(pending, *portions(pending)[number])
    assert pending.finished
    assert pending.error is None
    assert (pending.samples, pending.damage) == (12, DAMAGE)
    assert b"".join(pending.sink.json_parts()) == b"[[0,1,2,3,4,5,6,7,8,9,10,11]]"
    assert held == 12  # bytes of all codes


@pytest.mark.parametrize("resumed_at", [1, 2])
def test_fragments_that_an_earlier_attempt_has_left(resumed_at: int) -> None:
    """Those that follow complete the clip, in any order; how far it has come counts from its start."""
    for order in itertools.permutations(range(resumed_at, 3)):
        pending = a_clip()
        for portion, codes in portions(pending)[:resumed_at]:
            pending.sink.add(codes[:, portion.drop_head : codes.shape[1] - portion.drop_tail])
        pending.resume(resumed_at, MemberSum(1, 2))
        for number in order:
            assert not pending.finished
            take(pending, *portions(pending)[number])
        assert (pending.finished, pending.taken, pending.kept, pending.member) == (True, 3, resumed_at, MemberSum(1, 2))
        assert b"".join(pending.sink.json_parts()) == b"[[0,1,2,3,4,5,6,7,8,9,10,11]]"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_first_refused_portion_speaks(order: tuple[int, ...]) -> None:
    """Of several that the backend refuses, whichever came back first: a record must not depend on luck."""
    pending = a_clip()
    for number in order:
        portion, codes = portions(pending)[number]
        take(pending, portion, codes if number == 0 else ClipError("backend", f"portion {number}"))
    assert pending.finished
    assert str(pending.error) == "portion 1"


def test_an_error_of_decoding_speaks_before_those_of_encoding() -> None:
    """The clip's audio is bad, whatever the backend made of its beginning, and nothing of it is waited for."""
    pending = a_clip()
    take(pending, portions(pending)[0][0], ClipError("backend", "odd"))
    assert not pending.finished
    pending.error = ClipError("decode", "cut short")
    assert pending.finished
    take(pending, *portions(pending)[1])
    assert str(pending.error) == "cut short"


def test_codes_that_the_backend_did_not_promise() -> None:
    """They are a bug in it, and end the attempt: whichever portion it was, the clip never gets a line."""
    for bad in range(3):
        pending = a_clip()
        for number, (portion, codes) in enumerate(portions(pending)):
            if number == bad:
                with pytest.raises(InfrastructureError, match=r"backend mulaw gave .* bug in the backend"):
                    take(pending, portion, np.full(codes.shape, 256))
            else:
                take(pending, portion, codes)
        assert not pending.finished


def test_only_the_clip_that_is_due_has_files() -> None:
    """Of the clips whose tokens are too many to stay in memory many may wait, and each file is a descriptor."""
    clips = [a_clip(tokens_in_memory=3) for _ in range(2)]
    clips[1].share.due = True
    before = len(list(Path("/proc/self/fd").iterdir()))
    for clip, files in zip(clips, (0, 1), strict=True):
        for portion, codes in portions(clip):
            take(clip, portion, codes)
        assert len(list(Path("/proc/self/fd").iterdir())) == before + files
        assert clip.sink.bytes_in_memory == (0 if files else 12)
    assert len({b"".join(clip.sink.json_parts()) for clip in clips}) == 1
    for clip in clips:
        clip.sink.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
