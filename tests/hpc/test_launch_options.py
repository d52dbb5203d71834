"""hpc/launch_options.py: what a person or a site says of how to run is understood as sbatch would, or refused."""

from __future__ import annotations

import pytest

from audio_tokenizers.errors import UsageError
from hpc.launch_options import Site, overlay, parse_gpus, parse_minutes, parse_slurm_settings


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        (90, 90),
        ("90", 90),
        ("90:00", 90),
        ("0:05", 1),
        ("2:30", 3),
        ("2:00:00", 120),
        ("0:00:01", 1),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-00:00:00", 24 * 60),
        ("0-0:0:61", 2),
    ],
)
def test_time_is_read_as_sbatch_reads_it(text: str | int, minutes: int) -> None:
    """Every form that sbatch takes means here what it means there; Slurm counts limits in minutes, rounded up."""
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "0:00", "2h", "-5", "1:2:3:4", "1-", "UNLIMITED"])
def test_time_that_sbatch_would_not_take(text: str) -> None:
    """A limit that is none is refused here, with the forms that are."""
    with pytest.raises(UsageError, match="--time"):
        parse_minutes(text)


def test_gpus() -> None:
    """A number, or a type and a number; anything else is refused."""
    assert [parse_gpus(text) for text in (4, "4", "a100:4", "a:b:2")] == [(4, None), (4, None), (4, "a100"), (2, "a:b")]
    for wrong in ("", ":4", "a100", "a100:", "-1", "1.5"):
        with pytest.raises(UsageError, match="--gpus-per-node"):
            parse_gpus(wrong)


def test_further_options_of_sbatch() -> None:
    """Values may hold equals signs, a flag has none, and dashes may be left off or be underscores."""
    given = ["reservation=big", "exclusive", "--mail-type=END", "gpu_bind=single:1", "comment=a=b"]
    assert parse_slurm_settings(given) == {
        "reservation": "big",
        "exclusive": True,
        "mail-type": "END",
        "gpu-bind": "single:1",
        "comment": "a=b",
    }


@pytest.mark.parametrize(
    "setting", ["array=0-3", "job_name=x", "time=5", "requeue", "signal=USR2@5", "nodes=2", "N=2", "a b=1", "=x"]
)
def test_options_that_would_break_what_depends_on_ours(setting: str) -> None:
    """Options that name tasks, logs and signals are ours to set, and short ones could be any of them."""
    with pytest.raises(UsageError, match="--slurm"):
        parse_slurm_settings([setting])


def test_what_is_asked_for_comes_before_what_the_site_says() -> None:
    """Single values are replaced; setup lines and further options add up, the person's last."""
    site = Site(partition="a", account="b", setup=("one",), slurm={"reservation": "x", "mem": "1G"})
    asked = Site(partition="c", setup=("two",), slurm={"mem": "2G"})
    both = overlay(site, asked)
    assert (both.partition, both.account, both.setup) == ("c", "b", ("one", "two"))
    assert both.slurm == {"reservation": "x", "mem": "2G"}
