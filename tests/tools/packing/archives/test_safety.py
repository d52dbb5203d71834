import shutil
from pathlib import Path

import pytest

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.archives import safety
from tools.packing.archives.safety import decode_names, refuse_bomb, refuse_long_list, refuse_names, require_space

ARCHIVE = Path("x.zip")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "\\server\\a.wav",
        "C:\\a.wav",
        "c:/a.wav",
        "../a.wav",
        "a/../b.wav",
        "a\\..\\b.wav",
        "a/..",
        "a\nb.wav",
        "a\0",
    ],
)
def test_names_that_lead_out_of_a_folder_are_refused(name: str) -> None:
    """A name that is absolute, goes up or holds a control character refuses the archive, and the message has it."""
    with pytest.raises(UsageError, match="refused") as refusal:
        refuse_names(ARCHIVE, ["a/b.wav", name, "/another"])
    assert repr(name) in str(refusal.value)
    assert "another" not in str(refusal.value)


def test_odd_but_harmless_names_pass() -> None:
    """Dots, colons, spaces and other scripts are no crime."""
    refuse_names(
        ARCHIVE, ["...", "..a/b..wav", "Q: how.wav", "带变量语音 - Placeholder/1.wav", "-rf.wav", "@list", "*?.wav"]
    )


def test_what_unpacks_to_far_more_than_speech_ever_does_is_a_bomb() -> None:
    """The limit is on the ratio, and does not touch small archives of silence."""
    refuse_bomb(ARCHIVE, 1, safety.SURELY_HARMLESS)
    refuse_bomb(ARCHIVE, 1 << 30, safety.BOMB_RATIO << 30)
    with pytest.raises(UsageError, match="look like a bomb"):
        refuse_bomb(ARCHIVE, 1 << 20, (safety.BOMB_RATIO << 20) + 1)


def test_a_list_too_long_to_load_is_refused() -> None:
    """By its bytes and by its members, with what it claims."""
    refuse_long_list(ARCHIVE, size=safety.LARGEST_LIST, members=safety.MOST_MEMBERS)
    with pytest.raises(UsageError, match="2,147,483,648 bytes"):
        refuse_long_list(ARCHIVE, size=2 << 30)
    with pytest.raises(UsageError, match="4,000,001 members"):
        refuse_long_list(ARCHIVE, members=4_000_001)


def test_audio_that_must_wait_needs_the_space_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is too small is trouble with the machine, said before hours of work; nothing to wait for needs nothing."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=safety.SPACE_TO_SPARE))
    require_space(ARCHIVE, tmp_path, 0)
    with pytest.raises(InfrastructureError, match="100 and some to spare are needed"):
        require_space(ARCHIVE, tmp_path, 100)


def test_names_of_chinese_windows_are_read_as_such() -> None:
    """GBK names come out right beside ASCII ones, and UTF-8 wins where it fits."""
    names = ["带变量语音/第一句.wav", "a.wav", "镕.lab"]
    raw = [name.encode("gb18030") for name in names]
    assert decode_names([*raw, "é.wav".encode()], "cp437") == [*names, "é.wav"]


def test_western_names_do_not_become_chinese() -> None:
    """Accented letters of cp437 are valid GBK more often than not, and still are what the archive's own rule says."""
    names = ["résumé.wav", "Ünter der Brücke.wav"]
    assert decode_names([name.encode("cp437") for name in names], "cp437") == names


def test_bytes_that_are_no_text_are_kept_visible() -> None:
    """What nobody can decode stays distinct, as it does in tars."""
    assert decode_names([b"a\xff.wav", b"a\xfe.wav"], "utf-8") == ["a\\xff.wav", "a\\xfe.wav"]
