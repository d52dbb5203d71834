"""tools/packing/layouts/row_store.py: rows by key, outside of memory."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError
from tools.packing.layouts import row_store
from tools.packing.layouts.row_store import RowStore


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_rows_come_back_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    """Those of each key, whatever was added and read between them, in memory or in a file without a name."""
    monkeypatch.setattr(row_store, "ROWS_IN_MEMORY", in_memory or 1)
    store = RowStore(tmp_path)
    for number in range(200):
        store.add(f"k{number % 7}", b"%d" % number * (number % 5))
        if number % 3 == 0:
            assert store.get("k0")[0] == b""
    assert store.get("k3") == [b"%d" % number * (number % 5) for number in range(3, 200, 7)]
    assert store.get("nobody") == []
    assert (list(store), len(store), "k6" in store) == ([f"k{number}" for number in range(7)], 7, True)
    assert len(store.take("k6")) == 28
    assert (store.get("k6"), "k6" in store) == ([], False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_machines_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is said with the folder that is full."""
    store = RowStore(tmp_path)

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "_file", Full())
    with pytest.raises(InfrastructureError, match=rf"{tmp_path}: the rows of tables.*No space left"):
        store.add("k", b"row")


def test_many_threads_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets the rows that it asked for."""
    monkeypatch.setattr(row_store, "ROWS_IN_MEMORY", 1000)
    store = RowStore(tmp_path)
    for number in range(2000):
        store.add(str(number), b"%d" % number)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: store.get(str(number)), range(2000))) == [[b"%d" % n] for n in range(2000)]
