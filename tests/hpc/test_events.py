"""hpc/events.py: docs/monitoring.md describes exactly the events and metrics that there are."""

from __future__ import annotations

import re
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest
from support.runs import ROOT

from hpc import events, metrics
from hpc.events import EVENTS, Event
from hpc.metrics import FAMILIES
from jobs.progress import DeviceSeconds

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
COMMON = {field.name for field in msgspec.structs.fields(Event)}
TYPES = {str: "text", int: "integer", float: "number", bool: "boolean", dict: "object", tuple: "array of integers"}


def name_of(event: type[Event]) -> str:
    return str(event.__struct_config__.tag)


def section(heading: str) -> str:
    """The text below a heading, up to the next."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^#)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def described(kind: object) -> str:
    """A field's type, in the page's words."""
    if get_origin(kind) is UnionType:
        return f"{described(get_args(kind)[0])} or null"
    origin = get_origin(kind) or kind
    assert isinstance(origin, type)
    return TYPES.get(origin, "object")


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_every_event_and_its_fields(event: type[Event]) -> None:
    """Whoever reads the file finds each field with its type, in the file's order, and no other."""
    hints = get_type_hints(event)
    expected = [(name, described(hints[name])) for name in hints if name not in COMMON]
    assert re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| .+ \|$", section(name_of(event)), re.MULTILINE) == expected


def test_no_event_is_left_out() -> None:
    """All events are in the list, and the page has no others."""
    kinds = {
        kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }
    assert kinds == set(EVENTS)
    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert headings == [name_of(event) for event in EVENTS]
    assert len(set(headings)) == len(headings)


def test_fields_of_all_events() -> None:
    """The first table has what every event has."""
    table = PAGE[PAGE.index("## Events") : PAGE.index("**Killed controllers.**")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == COMMON | {"event"}


@pytest.mark.parametrize("name", ["training", "device_seconds"])
def test_objects_in_events(name: str) -> None:
    """The keys of objects are those that are written."""
    kind = {"training": events.TrainingCounts, "device_seconds": DeviceSeconds}[name]
    row = re.search(rf"^\| `{name}` \| (`.*) \|$", section("Objects in events"), re.MULTILINE)
    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == list(kind.__struct_fields__)


def test_every_metric() -> None:
    """The page has each metric with its labels and its HELP, in the file's order."""
    rows = re.findall(r"^\| `(tar2tokens_\w+)` \| (.*?) ?\| (.+) \|$", PAGE, re.MULTILINE)
    expected = [(family.name, ", ".join(f"`{label}`" for label in family.labels), family.help) for family in FAMILIES]
    assert [(name, labels.strip(), words) for name, labels, words in rows] == expected


def test_versions() -> None:
    """The page says which versions it describes."""
    assert f"| `version` | of the format: {events.VERSION}." in PAGE
    assert f"**Version** {metrics.VERSION}, in the label" in PAGE
