"""tools/checking/token_totals.py: sums over tars are exact, in whatever parts they are made."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.token_runs import speech, statistics_of

from audio_tokenizers.base import Field
from jobs.manifest import Maker, Manifest
from jobs.token_statistics import TokenStatistics, entropy_bits
from tools.checking.token_totals import Device, TokenTotals, maker_of

DEVICES = [Device("n1", "H100", "GPU-1"), Device("n2", "H100", "GPU-2"), None]


def totals_of(tars: range) -> TokenTotals:
    """Each tar of two clips, by one of two GPUs or by both."""
    totals = TokenTotals()
    for tar in tars:
        totals.add(str(tar), statistics_of([speech(tar, 50 + tar), speech(100 + tar, 20)]), DEVICES[tar % 3])
    return totals


def test_sums_are_those_of_all_clips() -> None:
    """As if all clips were of one tar."""
    found = totals_of(range(9)).sequences["tokens"]
    one = statistics_of([codes for tar in range(9) for codes in (speech(tar, 50 + tar), speech(100 + tar, 20))])
    whole = one.sequences["tokens"]
    assert (found.counts == whole.histograms()).all()
    assert (found.clips, found.items, found.still) == (whole.clips, whole.items, whole.still)
    assert found.repeated.tolist() == [codebook.repeated for codebook in whole.codebooks]
    longest = [(one.stretch.items, one.stretch.token) for one in found.longest if one is not None]
    expected = [(one.longest.items, one.longest.token) for one in whole.codebooks if one.longest is not None]
    assert longest == expected
    assert entropy_bits(found.counts[0]) == pytest.approx(whole.codebooks[0].entropy, abs=1e-4)


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_parts_add_up_to_the_whole(cut: int) -> None:
    """Several processes read a part of the run each."""
    joined = totals_of(range(cut))
    joined.join(totals_of(range(cut, 9)))
    whole = totals_of(range(9))
    mine, other = joined.sequences["tokens"], whole.sequences["tokens"]
    assert (mine.counts == other.counts).all()
    assert (mine.tars, mine.tar_items, mine.longest) == (other.tars, other.tar_items, other.longest)
    assert mine.devices.keys() == other.devices.keys() == {one for one in DEVICES if one is not None}
    for device, made in mine.devices.items():
        assert (made.counts == other.devices[device].counts).all()
        assert (made.tars, made.items) == (other.devices[device].tars, other.devices[device].items)
    assert (joined.tars, joined.clips) == (whole.tars, whole.clips)
    assert joined.audio_seconds == pytest.approx(whole.audio_seconds)


def test_what_does_not_fit_is_named_and_not_added() -> None:
    """Another number of ids, or a histogram of other tokens: damage, or a manifest of another run."""
    totals = totals_of(range(3))
    before = totals.sequences["tokens"].counts.copy()
    other = statistics_of([np.zeros((1, 5), np.int64)], Field(name="tokens", form="codes", codebook_size=64))
    good = statistics_of([speech(0)])
    wrong = msgspec.structs.replace(good.sequences["tokens"], items=1)
    totals.add("other", other)
    totals.add("wrong", TokenStatistics(clips=1, sequences={"tokens": wrong}))
    totals.add("older", None)
    assert totals.damaged.keys() == {"other", "wrong"}
    assert totals.not_counted == ["older"]
    assert totals.tars == 3
    assert (totals.sequences["tokens"].counts == before).all()
    joined = TokenTotals()
    joined.add("first", other)
    joined.join(totals)
    assert joined.damaged.keys() >= {"0", "1", "2"}


def test_few_tokens_do_not_look_certain() -> None:
    """The entropy of 200 tokens of 64 equally frequent ids is 0.2 bits too low; it is judged as what it comes from."""
    totals = TokenTotals()
    chance = np.random.default_rng(0)
    for tar in range(200):
        totals.add(str(tar), statistics_of([chance.integers(0, 64, (2, 200))]))
    assert np.mean([entropies[0] for entropies in totals.sequences["tokens"].tar_entropies]) == pytest.approx(6.0, abs=0.03)


def test_a_tar_of_several_devices_is_nobodys() -> None:
    """Nor is one of which some lines are older than the notes."""
    one, two = Maker(node="a", device="H100", gpu="GPU-1", clips=3), Maker(node="b", clips=1)
    manifest = Manifest(tar_file="t", input_bytes=1, input_mtime_ns=1, fingerprint="f", clips=3, made_by=(one,))
    assert maker_of(manifest) == Device("a", "H100", "GPU-1")
    assert maker_of(msgspec.structs.replace(manifest, clips=4)) is None
    assert maker_of(msgspec.structs.replace(manifest, clips=4, made_by=(one, two))) is None
    assert maker_of(msgspec.structs.replace(manifest, made_by=())) is None
