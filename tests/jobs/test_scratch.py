"""jobs/scratch.py: temporary files, and whose trouble theirs is."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError
from jobs.scratch import scratch_file, scratch_trouble


def test_a_scratch_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is read back, and nothing is left in the folder, not even by a process that is killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_file() as file:
        file.write(b"data")
        file.seek(0)
        assert file.read() == b"data"
        assert not list(tmp_path.iterdir())


def test_trouble_names_the_folder_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never the tar's, though the system says that a file is missing; other errors pass."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError, match=r"temporary files, .*/gone: No such file or directory: .*TMPDIR"):
        scratch_file()
    with pytest.raises(InfrastructureError, match=r"/gone: File too large"), scratch_trouble():
        raise OSError(errno.EFBIG, "File too large")
    with pytest.raises(ValueError, match="other"), scratch_trouble():
        raise ValueError("other")
