"""jobs/manifest.py: what is known of a tar's output, whichever version wrote it."""

from __future__ import annotations

import msgspec

from jobs.manifest import Manifest


def test_manifest_reads_an_older_or_newer_one() -> None:
    """A manifest with fields missing or unknown is read."""
    line = b'{"tar_file":"t","input_bytes":1,"input_mtime_ns":2,"fingerprint":"f","from_the_future":1}'
    assert msgspec.json.decode(line, type=Manifest).clips == 0
