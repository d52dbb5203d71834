"""jobs/option_struct.py: what a struct's fields say of options holds for the command line, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import typer
from support.runs import call

from jobs.option_struct import Only, Option, option_words, with_defaults, with_options

Count = Annotated[int, msgspec.Meta(ge=1)]


def parse_pairs(words: Sequence[str]) -> dict[str, str]:
    """`a=b` each."""
    return dict(word.split("=", 1) for word in words)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Options of every kind."""

    name: Annotated[str, Option("who")]
    size: Annotated[str | int | None, Option("as 1G, or in bytes")] = None
    procs: Annotated[Count | None, Option("processes")] = None
    share: Annotated[Annotated[float, msgspec.Meta(ge=0)] | None, Option("of it")] = None
    wait: Annotated[Annotated[float, msgspec.Meta(ge=-2)] | None, Option("seconds", expected="seconds without a unit")] = (
        None
    )
    threads: Annotated[Count | Literal["auto"] | None, Option("threads")] = None
    cluster: Annotated[Literal["auto", "slurm", "local"] | None, Option("where")] = None
    lines: Annotated[tuple[str, ...], Option("a line", flags=("--line",))] = ()
    pairs: Annotated[dict[str, str], Option("a=b", flags=("--pair",), parse=parse_pairs)] = msgspec.field(
        default_factory=dict
    )
    folder: Annotated[Path, Option("a folder", flags=("--folder", "--dir"))] = Path("tokens")
    dry_run: Annotated[bool, Option("say it")] = False
    cut: Annotated[bool | None, Option("cut it", flags=("--cut/--no-cut",))] = None
    note: str = "no option"


def given(*words: object) -> Sizes | int:
    """What a command gets for the words of a command line, or its exit code."""
    got: list[Sizes] = []

    @with_options
    def command(sizes: Sizes, flag: Annotated[bool, typer.Option("--flag")] = False) -> int:
        got.append(sizes)
        return 7 if flag else 0

    code = call(command, *words)
    return got[0] if code == 0 else code


def test_defaults() -> None:
    """What nobody gives is what the field says, and a field without a default has to be given."""
    assert given("--name", "x") == Sizes(name="x")
    assert given() == 2
    assert given("--name", "x", "--flag") == 7


ASKED = [
    (("--size", "1G"), {"size": "1G"}),
    (("--procs", "3", "--share", "0.0"), {"procs": 3, "share": 0.0}),
    (("--wait", "-1.5"), {"wait": -1.5}),
    (("--threads", "auto"), {"threads": "auto"}),
    (("--threads", "16", "--cluster", "slurm"), {"threads": 16, "cluster": "slurm"}),
    (("--line", "a b", "--line", "c"), {"lines": ("a b", "c")}),
    (("--pair", "a=b", "--pair", "c=d=e"), {"pairs": {"a": "b", "c": "d=e"}}),
    (("--folder", "/x", "--dry-run"), {"folder": Path("/x"), "dry_run": True}),
    (("--cut",), {"cut": True}),
    (("--no-cut",), {"cut": False}),
]


@pytest.mark.parametrize(("words", "values"), ASKED)
def test_values(words: tuple[str, ...], values: dict[str, Any]) -> None:
    """Each kind of field takes the words of its kind."""
    assert given("--name", "x", *words) == Sizes(name="x", **values)


@pytest.mark.parametrize(("words", "values"), ASKED)
def test_words_give_the_same_values_again(words: tuple[str, ...], values: dict[str, Any]) -> None:
    """`option_words` is the way back: the shortest command line that says it."""
    assert tuple(option_words(Sizes(name="x", **values), Sizes(name="x"))) == words


def test_words_say_what_differs() -> None:
    """Of mappings each item counts; a flag that is off has no word unless it has an opposite."""
    usual = Sizes(name="x", pairs={"a": "b"}, dry_run=True, cut=True, procs=2)
    assert option_words(Sizes(name="x", pairs={"a": "b", "c": "d"}, procs=2, cut=False), usual) == [
        *("--pair", "c=d", "--no-cut")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threads", "0"), "error: --threads 0: expected a number from 1, or auto\n"),
        (("--threads", "²"), "error: --threads ²: expected a number from 1, or auto\n"),
        (("--threads", "many"), "error: --threads many: expected a number from 1, or auto\n"),
        (("--cluster", "pbs"), "error: --cluster 'pbs': expected auto, slurm or local\n"),
        (("--procs", "0"), "--procs"),
        (("--share", "-1"), "--share"),
        (("--procs", "two"), "--procs"),
        (("--wait", "2h"), "'2h': expected seconds without a unit"),
        (("--wait", "nan"), "'nan': expected seconds without a unit"),
        (("--wait", "-3"), "'-3': expected seconds without a unit"),
        (("--note", "x"), "--note"),
    ],
)
def test_impossible_values(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are bad usage, and told with the option, and what is expected."""
    assert given("--name", "x", *words) == 2
    assert message in capsys.readouterr().err


def test_some_of_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that takes a few of a struct's options knows no others, and has the defaults of those."""

    @with_options
    def command(sizes: Annotated[Sizes, Only(("name", "procs"))]) -> int:
        assert sizes == Sizes(name="x", procs=4)
        return 0

    assert call(command, "--name", "x", "--procs", 4) == 0
    assert call(command, "--name", "x", "--size", 4) == 2
    assert "--size" in capsys.readouterr().err


def test_help_of_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Names, bounds, defaults and help are in --help."""
    with pytest.raises(IndexError):
        given("--help")
    words = " ".join(capsys.readouterr().out.split())
    for part in ("processes [x>=1]", "--folder, --dir", "a folder [default: tokens]", "--cut / --no-cut", "who [required]"):
        assert part in words


def test_with_defaults() -> None:
    """What was given wins, 0 too; defaults have only to have some of the options."""

    class Site(msgspec.Struct):
        procs: int = 3
        share: float = 0.5
        dry_run: bool = True
        other: int = 1

    assert with_defaults(Sizes(name="x", share=0.0), Site()) == Sizes(name="x", procs=3, share=0.0, dry_run=True)
