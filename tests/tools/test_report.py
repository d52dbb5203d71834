"""tools/report.py: the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_run import mulaw_spec, small_tar, tokenize

from audio_tokenizers.errors import UsageError
from jobs.spec import freeze_spec
from tools.report import MARK, report


@pytest.mark.slow
def test_the_page_and_its_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page replaces an older one, and each plot is there as PNG and SVG."""
    freeze_spec(tmp_path / "tokens", mulaw_spec())
    tokenize(small_tar(tmp_path / "a.tar"), tmp_path / "tokens")
    page = tmp_path / "report.html"
    page.write_bytes(MARK)
    assert report(output_dir=tmp_path / "tokens", html=page, plots=tmp_path / "plots", audio=1) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "<audio " in page.read_text()
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"progress.svg", "progress.png", "tars.png", "entropy-tokens.svg", "codes-tokens.png"} <= names
    assert len(names) % 2 == 0
    said = capsys.readouterr().out
    assert f"{page}: " in said
    assert f"{tmp_path / 'plots'}: {len(names) // 2} plots" in said


def test_what_cannot_be(tmp_path: Path) -> None:
    """No run, and a place that is no file, are refused before anything is read."""
    with pytest.raises(UsageError, match="no run here"):
        report(output_dir=tmp_path, html=tmp_path / "report.html")
    with pytest.raises(UsageError, match="expected the name of a file"):
        report(output_dir=tmp_path, html=tmp_path)
    assert list(tmp_path.iterdir()) == []
    other = tmp_path / "report.html"
    other.write_text("my own")
    with pytest.raises(UsageError, match="found another file"):
        report(output_dir=tmp_path, html=other)
    assert other.read_text() == "my own"
    with pytest.raises(UsageError, match=r"--plots .*: expected a folder, found a file"):
        report(output_dir=tmp_path, html=tmp_path / "new.html", plots=other)
