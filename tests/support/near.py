"""pytest.approx inside a tuple, a list or a struct: there mypy would take its own type for one that equals no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

approx: Callable[..., Any] = pytest.approx
