"""jobs/sidecar_names.py: a sidecar is found by its name, an equal one before one that looks equal, and never by guess."""

from __future__ import annotations

import random
import unicodedata

import pytest

from jobs.sidecar_names import AmbiguousName, SidecarNames, folded, plain_path

NFC, NFD = "été", unicodedata.normalize("NFD", "été")


def names(audio: list[str], sidecars: list[str], *, keys: bool = True) -> SidecarNames[str]:
    found: SidecarNames[str] = SidecarNames(keys=keys)
    for name in audio:
        found.add_audio(name)
    for name in sidecars:
        found.add_sidecar(name, name)
    return found


@pytest.mark.parametrize(
    ("audio", "sidecar"),
    [
        ("a.flac", "a.json"),
        ("d/a.flac", "d/a.flac.json"),
        ("./d/a.flac", "d/a.json"),
        ("d/a.flac", "./d//a.json"),
        ("Case.FLAC", "case.json"),
        ("a.flac", "A.JSON"),
        (f"{NFD}.flac", f"{NFC}.json"),
        (f"{NFC.upper()}.flac", f"{NFD}.flac.json"),
        ("straße.wav", "STRASSE.json"),
        ("v1.0/1.mic2.wav", "v1.0/1.json"),
        ("v1.0/1.mic2.wav", "v1.0/1.mic2.json"),
    ],
)
def test_names_that_belong_together(audio: str, sidecar: str) -> None:
    """Whatever stands beside them."""
    assert names([audio, "other.wav"], [sidecar, "z.json"]).of(audio, "json") == sidecar


@pytest.mark.parametrize(
    ("audio", "sidecar"), [("a.flac", "b.json"), ("a.flac", "d/a.json"), ("a.flac", "a.txt"), ("../a.flac", "a.json")]
)
def test_names_that_do_not(audio: str, sidecar: str) -> None:
    """Another stem, folder or extension."""
    assert names([audio], [sidecar]).of(audio, "json") is None


def test_equal_names_win() -> None:
    """Over names that look equal, and the longer name over the key; what is another's own is nobody else's."""
    found = names(["Case.flac", "case.flac", "1.a.wav", "1.b.wav"], ["case.json", "Case.json", "1.json", "1.a.json"])
    assert found.of("Case.flac", "json") == "Case.json"
    assert found.of("case.flac", "json") == "case.json"
    assert (found.of("1.a.wav", "json"), found.of("1.b.wav", "json")) == ("1.a.json", "1.json")
    assert names(["Case.flac", "case.flac"], ["case.json"]).of("Case.flac", "json") is None
    assert names(["x.mp3"], ["x.json", "x.mp3.json"]).of("x.mp3", "json") == "x.mp3.json"


def test_keys_are_for_tars() -> None:
    """In a folder, `1.json` is not that of `1.mic2.wav`."""
    assert names(["1.mic2.wav"], ["1.json"], keys=False).of("1.mic2.wav", "json") is None


def test_what_is_ambiguous_is_told() -> None:
    """Two sidecars that fit as well as each other, two of one name, and one that fits two files."""
    with pytest.raises(AmbiguousName, match=r"CASE\.json and case\.json look alike"):
        names(["Case.flac"], ["case.json", "CASE.json"]).of("Case.flac", "json")
    with pytest.raises(AmbiguousName, match=r"2 sidecars of the name a\.json"):
        names(["a.flac"], ["a.json", "a.json"]).of("a.flac", "json")
    both = names(["Case.flac", "CASE.flac"], ["case.json"])
    for audio in ("Case.flac", "CASE.flac"):
        with pytest.raises(AmbiguousName, match=r"case\.json looks like the name of CASE and Case"):
            both.of(audio, "json")


def test_only_those_that_are_wanted() -> None:
    """The others do not count, not even as doubts."""
    found = names(["Case.flac"], ["case.json", "CASE.json"])
    assert found.of("Case.flac", "json", lambda name: name != "CASE.json") == "case.json"
    assert found.of("Case.flac", "json", lambda _: False) is None


def test_paths_and_looks() -> None:
    """Written as everybody does, and compared by letters."""
    assert [plain_path(name) for name in ("a/b", "./a", "a//b/./c", "/./a", "../a", ".a", "a.")] == [
        *("a/b", "a", "a/b/c", "/a", "../a", ".a", "a."),
    ]
    assert folded(NFD.upper()) == folded(NFC) == NFC
    assert folded("plain") == "plain"


def test_no_sidecar_is_given_to_two_unequal_names() -> None:
    """A thousand small sets of names, seeded: who gets a sidecar by looks alone is the only one that looks so."""
    rng = random.Random(1)
    stems = ["a", "A", "b", NFC, NFD, NFC.upper(), "./a", "a.x", "A.x"]
    for _ in range(1000):
        audio = [f"{rng.choice(stems)}.{rng.choice(('wav', 'WAV'))}" for _ in range(4)]
        sidecars = [f"{rng.choice(stems)}.json" for _ in range(3)]
        found = names(audio, sidecars)
        for name in audio:
            try:
                taken = found.of(name, "json")
            except AmbiguousName:
                continue
            if taken is not None and plain_path(taken)[:-5] not in {
                plain_path(name)[:-4],
                plain_path(name).partition(".")[0],
            }:
                rivals = {
                    plain_path(other)[:-4]
                    for other in audio
                    if folded(plain_path(other)[:-4]) == folded(plain_path(taken)[:-5])
                }
                assert len(rivals) <= 1
