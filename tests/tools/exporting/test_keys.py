"""tools/exporting/keys.py: one key per clip, which WebDataset and any file system take for one name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.exporting.keys import ClipKeys


def keys(*names: str) -> list[str]:
    clip_keys = ClipKeys()
    return [clip_keys.key(name) for name in names]


def test_names_keep_what_they_say() -> None:
    """Folders stay, dots of names become underscores, and the last extension goes."""
    assert keys("a/b.wav", "spk.0001.wav", "v1.0/x.flac", "語.wav") == ["a/b", "spk_0001", "v1_0/x", "語"]


def test_equal_keys_are_numbered() -> None:
    """Clips that would share a key, on a file system that ignores case or composition too, get numbers, in order."""
    assert keys("x.wav", "x.flac", "x.wav", "X.wav", "x-2.wav", "x_y.wav", "x.y.wav") == [
        *("x", "x-2", "x-3", "X-4", "x-2-2", "x_y", "x_y-2")
    ]
    assert keys("e\u0301.wav", "\u00e9.wav")[1] == "\u00e9-2"


def test_no_way_out_of_the_folder() -> None:
    """Absolute names, `..`, and names that are nothing but an extension stay below the export's folder."""
    assert keys("/etc/x.wav", "../../x.wav", "./y.wav", "a//b.wav", "..wav", "z/.wav") == [
        *("etc/x", "x", "y", "a/b", "_", "z/clip")
    ]


def test_names_that_webdataset_would_skip() -> None:
    """`__x__` at the beginning is meta data for webdataset, so such names lose their underscores."""
    assert keys("__meta__/x.wav", "__a__.wav", ".___.wav", "_x.wav") == ["meta__/x", "a__", "clip", "_x"]


def test_long_names_are_shortened() -> None:
    """No name is longer than a file system takes, and two long names stay two."""
    found = keys("語" * 100 + "a.wav", "語" * 100 + "b.wav")
    assert all(len(key.encode()) <= 200 for key in found)
    assert found[0] != found[1]


names = st.lists(st.text("ab./_-AÉé語", min_size=1, max_size=8).map(lambda name: f"{name}.wav"), max_size=12)


@pytest.mark.models
@settings(max_examples=200)
@given(names)
def test_any_names(names: list[str]) -> None:
    """Keys differ, also where case does not count, have no dots, and webdataset finds them again in a member's name."""
    from webdataset.tariterators import base_plus_ext

    found = keys(*names)
    assert len({key.casefold() for key in found}) == len(names)
    for key in found:
        assert "." not in key
        assert not key.startswith("/")
        assert not re.match(r"__[^/]*__($|/)", key)
        assert base_plus_ext(f"{key}.tokens.npy") == (key, "tokens.npy")


def test_parts_of_an_audio() -> None:
    """They keep their ids, and no extension."""
    assert keys("a/x.wav#0", "a/x.wav#1", "a/x.wav#id#0", "y#1.wav") == ["a/x#0", "a/x#1", "a/x#id#0", "y#1"]
