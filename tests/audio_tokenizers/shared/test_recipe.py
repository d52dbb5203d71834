"""shared/recipe.py: keys and values of recipes, which decide the fingerprint of every run that there is."""

from __future__ import annotations

import datetime as dt
import hashlib
import platform

import pytest

from audio_tokenizers.shared.recipe import config_sha256, recipe_tail

VERSIONS = {"torch": "2.13.0"}


def test_the_tail_of_a_recipe() -> None:
    """The device's number is no part of it; its order is that in which runs show their recipe."""
    tail = recipe_tail("cuda:3", "fp32", VERSIONS)
    assert list(tail.items()) == [("tf32", False), ("device", "cuda"), ("torch", "2.13.0")]
    assert recipe_tail("cpu", "tf32", {}) == {"tf32": True, "device": "cpu"}


def test_keys_that_older_runs_do_not_have() -> None:
    """They are there only where they say something, so that the fingerprint of older runs stays."""
    tail = recipe_tail("cuda", "bf16", VERSIONS, lanes=16)
    assert tail == {"tf32": False, "device": "cuda", **VERSIONS, "precision": "bf16", "lanes": 16}
    for precision in ("fp32", "tf32"):
        assert set(recipe_tail("cuda", precision, VERSIONS)) == {"tf32", "device", "torch"}


def test_a_macs_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its GPU's kernels come with macOS: another version is another recipe there, and only there."""
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    assert recipe_tail("mps", "fp32", VERSIONS) == {"tf32": False, "device": "mps", **VERSIONS, "macos": "15.1"}
    assert "macos" not in recipe_tail("cpu", "fp32", VERSIONS)


def test_the_hash_of_a_config() -> None:
    """Of its values as JSON with sorted keys: white space and order change nothing. YAML's dates count as their text."""
    expected = hashlib.sha256(b'{"a": [1, null], "b": {"c": true}}').hexdigest()
    assert config_sha256({"b": {"c": True}, "a": [1, None]}) == expected
    assert config_sha256({"day": dt.date(2024, 5, 1)}) == config_sha256({"day": "2024-05-01"})
    assert config_sha256({"a": 1}) != config_sha256({"a": 2})
