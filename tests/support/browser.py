"""Headless Chromium for tests of HTML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REQUIRE = "SYSTEM_TESTS"
"""`require`: what is missing is a failure. A skip must not pass for a success in CI."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's. Skips the test, or fails it, where there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        text = "needs Chromium; as root: apt-get install --no-install-recommends chromium"
        (pytest.fail if os.environ.get(REQUIRE) == "require" else pytest.skip)(text)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()
