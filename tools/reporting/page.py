"""Renders a report: one HTML file that loads nothing and runs one script of its own."""

from __future__ import annotations

import base64
import functools
import hashlib
import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from audio_tokenizers.shared.command_names import called
from jobs.plain_text import plain, plain_lines
from jobs.version import version
from tools.reporting.clips import HEARD_SECONDS, HeardClip
from tools.reporting.facts import RunFacts
from tools.reporting.figures import inline_svg
from tools.reporting.model import Plot, Section
from tools.reporting.notices import headline, notices
from tools.reporting.recipe_tables import recipe_tables
from tools.reporting.sections import make_sections, make_tiles
from tools.reporting.summary import cost_of, forecast
from tools.reporting.units import clock, zone_name

__all__ = ["render"]

STATE_WORDS = {
    "finished": "finished",
    "quarantined": "finished, with a quarantine",
    "running": "running",
    "stuck": "stopped",
    "waiting": "waiting",
    "idle": "idle",
    "empty": "empty",
}


def _own_text(name: str) -> str:
    return files("tools.reporting").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Any:  # noqa: ANN401 (jinja2 is an extra)
    from jinja2 import BaseLoader, Environment, StrictUndefined

    found = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["plain"] = plain
    return found


def render(facts: RunFacts, clips: Sequence[HeardClip] = (), clips_fault: str = "") -> tuple[str, list[Plot]]:
    """The page, and its plots."""
    ahead = forecast(facts)
    cost = cost_of(facts, ahead.audio_hours_left)
    state, sentence = headline(facts, ahead)
    sections: list[Section] = make_sections(facts, ahead, cost)
    plots = [plot for section in sections for plot in section.plots]
    script = _own_text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    quoted = shlex.quote(facts.output_dir)
    drawn = [(plot.name, plot.figure, plot.alt) for plot in plots if plot.figure is not None]
    html = _environment().from_string(_own_text("page.html.jinja")).render(
        name=plain(facts.output_dir.rstrip("/").rpartition("/")[2]),
        output_dir=plain(facts.output_dir),
        made_at=f"{clock(facts.made_at)} {zone_name(facts.made_at)}",
        state=state,
        state_words=STATE_WORDS[state],
        sentence=plain_lines(sentence),
        tiles=make_tiles(facts, ahead, cost),
        notices=notices(facts, state),
        sections=sections,
        svgs={plot_name: _trusted(inline_svg(figure, plot_name, alt)) for plot_name, figure, alt in drawn},
        commands=_pairs(facts.commands),
        failures=[failure for failure in facts.failures if failure.log],
        clips=clips,
        clips_fault=clips_fault,
        recipe=recipe_tables(facts),
        version=version(),
        style=_trusted(_own_text("page.css")),
        script=_trusted(script),
        digest=digest,
        list_command=f"{called('tools.failures')} --output-dir {quoted}",
        audio_command=f"{called('tools.report')} --audio 12 --output-dir {quoted}",
        heard_seconds=f"{HEARD_SECONDS:.0f}",
    )  # fmt: skip
    return html, plots


def _trusted(markup: str) -> Any:  # noqa: ANN401 (jinja2 is an extra)
    """Markup for the page as it is: our own files, and SVG in which matplotlib has escaped all text."""
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """(what for, command) from the lines of tools.failures."""
    found = []
    words = ""
    for line in lines:
        if line.startswith("  "):
            found.append((words, line.strip()))
        else:
            words = line
    return found
