"""jobs/recipe_options.py: what decides the bytes is asked for in the same words by each command."""

from __future__ import annotations

import inspect

import typer
from typer.main import get_command

from hpc.submit import submit
from jobs import recipe_options
from jobs.spec import make_spec
from jobs.tokenize_tar import tokenize_tar


def test_commands_ask_in_the_same_words() -> None:
    """Every option of the spec that both have has the same names and the same help."""
    found = []
    for function in (submit, tokenize_tar):
        app = typer.Typer()
        app.command()(function)
        found.append({one.name: (one.opts, one.secondary_opts, one.help) for one in get_command(app).params})
    shared = (inspect.signature(make_spec).parameters.keys() | {"settings", "text_key"}) & found[0].keys() & found[1].keys()
    assert len(shared - {"device"}) == len(recipe_options.__all__)
    for name in shared:
        assert found[0][name] == found[1][name]
