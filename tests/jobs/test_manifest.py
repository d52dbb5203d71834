"""jobs/manifest.py: what is known of a tar's output, whichever version wrote it."""

from __future__ import annotations

import msgspec

from jobs.manifest import Findings, Manifest


def test_manifest_reads_an_older_or_newer_one() -> None:
    """A manifest with fields missing or unknown is read."""
    line = b'{"tar_file":"t","input_bytes":1,"input_mtime_ns":2,"fingerprint":"f","from_the_future":1}'
    assert msgspec.json.decode(line, type=Manifest).clips == 0


def test_findings_are_fields_of_the_manifest() -> None:
    """Of the same type, with the same default: what an attempt did not find out reads like a manifest that lacks it."""
    fields = {field.name: field for field in msgspec.structs.fields(Manifest)}
    for field in msgspec.structs.fields(Findings):
        same = fields[field.name]
        assert (field.type, field.default, field.default_factory) == (same.type, same.default, same.default_factory)
