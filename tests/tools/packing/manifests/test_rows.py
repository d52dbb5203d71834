"""tools/packing/manifests/rows.py: the name that a path in a manifest gives a clip."""

from __future__ import annotations

import pytest

from tools.packing.manifests.rows import name_below


@pytest.mark.parametrize(
    ("audio", "name"),
    [
        ("a/1.wav", "a/1.wav"),
        ("/data/a/1.wav", "a/1.wav"),
        ("./a/1.wav", "a/1.wav"),
        ("a//b/../1.wav", "a/1.wav"),
        ("../other/1.wav", "other/1.wav"),
        ("/other/1.wav", "other/1.wav"),
        ("a/.hidden.wav", "a/.hidden.wav"),
    ],
)
def test_a_name_has_no_root_and_leads_nowhere_else(audio: str, name: str) -> None:
    """Below the manifest's folder it is relative to that; elsewhere it is the path without its beginning."""
    assert name_below("/data", audio) == name
