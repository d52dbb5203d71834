"""jobs/audio_formats.py: how extensions are normalised."""

from __future__ import annotations

import pytest

from jobs.audio_formats import AUDIO_EXTENSIONS, normalise_extensions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([".MP3", "flac,wav"], ("flac", "mp3", "wav")),
        (["wav", "WAV", " .Wav "], ("wav",)),
        ([",", ""], ()),
        ([], ()),
    ],
)
def test_normalise(given: list[str], expected: tuple[str, ...]) -> None:
    """Case, dots, commas, blanks and order do not matter."""
    assert normalise_extensions(given) == expected


def test_default_is_normal_already() -> None:
    """The default list is in the form that --extensions gives."""
    assert normalise_extensions(AUDIO_EXTENSIONS) == AUDIO_EXTENSIONS
