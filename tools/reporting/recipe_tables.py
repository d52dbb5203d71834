"""Pure: what decides a run's tokens, as tables of the page."""

from __future__ import annotations

from audio_tokenizers.shared.wording import counted
from jobs.plain_text import plain
from jobs.spec import preset_name
from tools.reporting.facts import RunFacts
from tools.reporting.model import Table, text_cell
from tools.reporting.units import duration, number, percent

__all__ = ["recipe_tables"]

SETS_SHOWN = 6


def recipe_tables(facts: RunFacts) -> list[Table]:
    """What the run tokenizes with, how it is launched, and which versions took part."""
    tables = []
    if facts.spec is not None:
        spec = facts.spec
        rows = [
            ("backend", preset_name(spec)),
            ("fingerprint", spec.fingerprint),
            ("sample rate", f"{spec.sample_rate:,} Hz"),
            ("frames per second", number(spec.sample_rate / spec.hop_length)),
            *(
                (
                    f"key {each.name}",
                    f"{each.form}, {each.width} x {each.codebook_size:,}"
                    if each.codebook_size
                    else f"{each.form}, width {each.width}",
                )
                for each in spec.fields
            ),
            ("channels", spec.channel_rule),
            ("clips up to", duration(spec.longest_seconds)),
            ("damaged clips kept up to", percent(spec.max_damage)),
            *((key, "none" if value is None else value) for key, value in spec.recipe.items()),
        ]
        tables.append(Table("Recipe", ("", "value"), [(text_cell(key), text_cell(plain(value))) for key, value in rows]))
    if facts.launch is not None:
        launch = facts.launch
        said = [
            ("cluster", launch.cluster),
            ("device", launch.device),
            ("partition", launch.partition),
            ("GPUs of an array task", launch.gpus_per_node),
            ("workers per GPU", launch.procs_per_gpu),
            ("time limit, minutes", launch.time_limit_min),
            ("cores per GPU", launch.cpus_per_gpu),
            ("memory per GPU", launch.mem_per_gpu),
        ]
        tables.append(
            Table(
                "Launch",
                ("", "value"),
                [(text_cell(key), text_cell(plain(value))) for key, value in said if value not in (None, "")],
            )
        )
    sets = facts.totals.versions
    if sets:
        packages = list(dict.fromkeys(name for versions in sets for name, _ in versions))
        shown = list(sets.items())[:SETS_SHOWN]
        rows_of = [
            (text_cell(plain(package)), *(text_cell(plain(dict(versions).get(package, "-"))) for versions, _ in shown))
            for package in packages
        ]
        columns = ("package", *(f"in {counted(tars, 'tar')}" for _, tars in shown))
        tables.append(
            Table(
                "Versions",
                columns,
                rows_of,
                more=f"The {len(shown)} commonest of {len(sets)} sets." if len(sets) > len(shown) else "",
            )
        )
    return tables
