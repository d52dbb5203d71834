"""The options of commands that are part of a run's spec (jobs/spec.py), with their help: one text for all that have them."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands import number_parser

__all__ = [
    "Channel",
    "Extensions",
    "MaxDamage",
    "MaxDuration",
    "MaxTokensPerFragment",
    "NumTokensOverlap",
    "Segments",
    "Settings",
    "Sniff",
    "TextEncoding",
    "TextKeys",
]

Settings = Annotated[list[str] | None, typer.Option("--set", help="a backend's option=value")]
MaxTokensPerFragment = Annotated[int | None, typer.Option(help="longest fragment, in frames")]
NumTokensOverlap = Annotated[int | None, typer.Option(help="overlap of fragments, in frames")]
MaxDuration = Annotated[
    float | None,
    typer.Option(
        parser=number_parser("seconds, such as 3600 for an hour, without a unit"),
        metavar="FLOAT",
        help="longer clips become errors, in seconds; default 24 hours",
    ),
]
MaxDamage = Annotated[
    float | None,
    typer.Option(
        parser=number_parser("a share such as 0.02, not 2%"),
        metavar="FLOAT",
        help="share of a clip that may be missing, 0 to 1; default 0.02 (50 ms always); more becomes an error",
    ),
]
Extensions = Annotated[list[str] | None, typer.Option(help="audio extensions; default: all that we decode")]
TextKeys = Annotated[
    list[str] | None,
    typer.Option(help="key of the text in a clip's JSON; default: text, transcript, sentence and others"),
]
TextEncoding = Annotated[
    str | None, typer.Option(help="of texts, such as shift_jis; default auto: UTF-8, or what all texts of a tar show")
]
Channel = Annotated[
    str | None,
    typer.Option(help="mean, first, left, right, a number from 0, or split: each a clip; default: as the backend"),
]
Segments = Annotated[
    bool | None,
    typer.Option("--segments/--no-segments", help="cut audio into the segments of its sidecars, each a clip"),
]
Sniff = Annotated[bool, typer.Option("--sniff", help="take what begins as audio, too, if it has no known extension")]
