"""tools/checking/token_judge.py: what is wrong is named, and ordinary differences are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.token_runs import speech, statistics_of

from audio_tokenizers.base import Codes, Field
from tools.checking.token_judge import TokenWarning, divergence_bits, judge_tokens
from tools.checking.token_totals import Device, TokenTotals

Change = Callable[[int, Codes], Codes]


def as_made(_tar: int, codes: Codes) -> Codes:
    """Without a fault."""
    return codes


def a_run(tars: int = 24, gpus: int = 4, per_node: int = 2, change: Change = as_made) -> TokenTotals:
    """A tar per voice; tar n is made by GPU n % gpus, of node n % gpus // per_node. `change` gets the number of the tar."""
    totals = TokenTotals()
    for number in range(tars):
        gpu = number % gpus
        device = Device(f"n{gpu // per_node}", "H100", f"GPU-{gpu}")
        totals.add(f"{number:03}", statistics_of([change(number, speech(number))]), device)
    return totals


def judged(totals: TokenTotals) -> list[TokenWarning]:
    return list(judge_tokens(totals).warnings)


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_voices_that_differ_are_no_reason_to_warn(gpus: int) -> None:
    """Tars of a speaker each, dealt to GPUs as they come."""
    totals = a_run(tars=32, gpus=gpus)
    judgement = judge_tokens(totals)
    assert judgement.warnings == ()
    assert (judgement.tars, judgement.devices) == (32, gpus if gpus > 1 else 0)


def test_kinds_of_audio_that_come_in_turn_are_no_reason_to_warn() -> None:
    """Half of the list is another corpus: a GPU each has tars of one of them alone, and no GPU stands out."""

    def another(tar: int, codes: Codes) -> Codes:
        return codes if tar % 2 else np.where(codes < 32, codes, (codes + 7) % 64)

    assert judged(a_run(tars=32, gpus=8, change=another)) == []


def test_a_tar_with_one_code_has_collapsed() -> None:
    """It is named, with the codebook that is worst and how many others are as bad."""

    def stuck(tar: int, codes: Codes) -> Codes:
        return np.where(np.arange(codes.shape[1]) % 20 < 19, 7, codes) if tar == 5 else codes

    (warning,) = judged(a_run(change=stuck))
    assert (warning.kind, warning.sequence, warning.tars) == ("collapse", "tokens", ("005",))
    assert "005 (codebook " in warning.words
    assert "and 1 other codebook" in warning.words


def test_a_short_tar_is_not_judged() -> None:
    """A minute of one voice has few codes."""
    totals = a_run()
    totals.add("short", statistics_of([np.full((2, 100), 3)]))
    assert judged(totals) == []


def test_a_run_that_has_collapsed_as_a_whole_is_told() -> None:
    """Compared with itself, nothing would stand out."""

    def stuck(_tar: int, codes: Codes) -> Codes:
        return codes % 2

    (warning,) = judged(a_run(change=stuck))
    assert (warning.kind, warning.tars) == ("collapse", ())
    assert "codebook 0: " in warning.words
    assert "of 6.00" in warning.words


def test_a_long_constant_stretch_is_told_with_its_clip() -> None:
    """In seconds, by the frame rate; the tar with the longest first."""

    def silent(tar: int, codes: Codes) -> Codes:
        codes = codes.copy()
        if tar in (2, 9):
            codes[0, 100 : 100 + 50 * (5 + tar)] = 9
        return codes

    (warning,) = judged(a_run(change=silent))
    assert (warning.kind, warning.tars) == ("constant", ("009", "002"))
    assert "009: 0.wav (line 1): 28.0 s of 9 in codebook 0" in warning.words


def test_clips_that_never_change_are_told() -> None:
    """A few in a tar of many: each is too short to be a long stretch, and too little to lower the entropy."""
    totals = a_run()
    clips = [*(np.full((2, 50), number) for number in range(3)), *np.split(speech(99), 40, axis=1)]
    totals.add("odd", statistics_of(clips))
    (warning,) = judged(totals)
    assert (warning.kind, warning.tars) == ("constant", ("odd",))
    assert "odd (3 of 43)" in warning.words


def zeros(_tar: int, codes: Codes) -> Codes:
    return np.where(np.arange(codes.shape[1]) % 2, 0, codes)


def another_network(_tar: int, codes: Codes) -> Codes:
    return codes[:, ::-1] * 17 % 64


@pytest.mark.parametrize("fault", [zeros, another_network])
@pytest.mark.parametrize("gpus", [4, 8])
def test_a_gpu_that_makes_other_tokens_is_named(fault: Change, gpus: int) -> None:
    """And its node is not: the other GPU there is well."""
    warnings = judged(a_run(tars=8 * gpus, gpus=gpus, change=lambda tar, c: fault(tar, c) if tar % gpus == 1 else c))
    assert [warning.device for warning in warnings if warning.kind == "device"] == ["n0, H100 GPU-1"]


def test_a_node_of_which_all_gpus_differ_is_named() -> None:
    """Once, and not with each of its GPUs."""
    warnings = judged(a_run(tars=64, gpus=8, change=lambda tar, c: another_network(tar, c) if tar % 8 < 2 else c))
    assert [warning.device for warning in warnings] == ["n0"]


def test_of_two_gpus_nobody_knows_which_is_wrong() -> None:
    """Both are named."""
    (warning,) = judged(a_run(gpus=2, change=lambda tar, c: another_network(tar, c) if tar % 2 else c))
    assert "n0, H100 GPU-0 makes other tokens than n0, H100 GPU-1" in warning.words


def test_a_device_with_little_work_is_not_judged() -> None:
    """A tar or two of an odd voice are no sign of a bad GPU."""
    totals = a_run()
    for number in range(2):
        totals.add(f"odd {number}", statistics_of([another_network(0, speech(number))]), Device("n9", "H100", "GPU-9"))
    assert judged(totals) == []


def test_nodes_without_gpus_are_compared_too() -> None:
    """By their names."""
    totals = TokenTotals()
    for number in range(20):
        codes = speech(number)
        device = Device(f"n{number % 4}", "cpu", "")
        totals.add(f"{number:03}", statistics_of([another_network(0, codes) if number % 4 == 3 else codes]), device)
    assert [warning.device for warning in judged(totals)] == ["n3"]


def test_texts_are_not_compared_by_device() -> None:
    """No device decides them, and their vocabularies are large."""
    field = Field(name="text_tokens", form="list", codebook_size=70_000)
    totals = TokenTotals()
    for number in range(12):
        totals.add(str(number), statistics_of([np.full((1, 3000), number % 3)], field), Device(f"n{number % 3}", "cpu", ""))
    assert all(warning.kind == "collapse" for warning in judged(totals))


def test_nothing_is_judged_without_tokens() -> None:
    """An empty run, and one of floats."""
    assert judge_tokens(TokenTotals()).warnings == ()
    totals = TokenTotals()
    totals.add("a", statistics_of([]))
    assert judged(totals) == []


def test_divergence() -> None:
    """0 for equal histograms, 1 for those without a common id, and the same from both sides."""
    p, q, r = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.25, 0.25])
    assert divergence_bits(p, p) == 0.0
    assert divergence_bits(p, q) == 1.0
    assert divergence_bits(p, r) == divergence_bits(r, p) == pytest.approx(0.1556, abs=1e-4)
