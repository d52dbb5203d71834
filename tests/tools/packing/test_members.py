"""tools/packing/members.py: a clip's members have names that can be unpacked anywhere, and a JSON that loses nothing."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tools.packing.members import Loaded, member_key, sidecar
from tools.packing.pairs import Pair

PAIR = Pair(id="a/x", audio_name="a/x.wav", audio=b"", size=0, text="é 語", text_name="a/x.lab")


def beside(**changes: Any) -> dict[str, Any]:
    """The JSON of a pair."""
    found: dict[str, Any] = json.loads(sidecar(Loaded(dataclasses.replace(PAIR, **changes), 48000, 1.0)))
    return found


class TestKeys:
    @pytest.mark.parametrize("name", ["a", "a/b", "中文 - Chinese/vo_x", "1-2_3", "a.b/c"])
    def test_good_names_stay(self, name: str) -> None:
        """An id that is a key already is the members' name: nobody has to look anything up."""
        assert member_key(name) == name

    def test_dots_do_not_make_two_clips_one(self) -> None:
        """A WebDataset key ends at the first dot: `0001.a` and `0001.b` become keys of their own, and so does `0001_a`."""
        keys = {member_key(name) for name in ("s/0001.a", "s/0001.b", "s/0001_a", "s/.hidden")}
        assert len(keys) == 4
        assert not any("." in key for key in keys)

    @pytest.mark.parametrize("name", ["/etc/x", "../../x", "a/./../x", "a\\b", "a\nb", "", "..", "x\udcff"])
    def test_nothing_can_leave_the_folder_it_is_unpacked_in(self, name: str) -> None:
        """Whatever a manifest calls a clip, its member has a relative name without `..` or control characters."""
        key = member_key(name)
        assert key
        assert not key.startswith("/")
        assert not {"", ".", ".."} & set(key.split("/"))
        assert key.isprintable()
        assert "\\" not in key
        key.encode()


class TestSidecar:
    def test_what_it_says(self) -> None:
        """Text, id and where they were, with the file's own rate, stand where the tokenizer and tools.merge look."""
        assert beside(language="zh") == {
            "id": "a/x",
            "text": "é 語",
            "language": "zh",
            "source": {"audio": "a/x.wav", "text": "a/x.lab", "sample_rate": 48000},
        }

    def test_keys_of_the_data_set_win(self) -> None:
        """The data set's own keys stay as they are, its id too; only the text is what was read as the text."""
        found = beside(metadata={"id": "EN_1", "dnsmos": 3.3, "source": "yt"})
        assert (found["id"], found["dnsmos"], found["text"]) == ("EN_1", 3.3, "é 語")
        assert found["source"]["id"] == "a/x"  # the one that no other clip has
        assert found["source"]["was"] == "yt"

    def test_names_that_are_not_utf8(self) -> None:
        r"""A file name of other bytes is written as \xNN, not refused and not dropped."""
        assert beside(audio_name="a/\udcff.wav")["source"]["audio"] == "a/\\xff.wav"

    def test_audio_without_text(self) -> None:
        """No text is no key, so that nobody takes an empty transcript for one."""
        assert "text" not in beside(text=None, text_name=None)


def test_what_stood_where_the_text_stands_now() -> None:
    """A number under `text`, where the text stood under another key, is kept; the text is found where it always is."""
    found = beside(metadata={"text": 5, "language": " ", "speaker": "s"}, text="said", language="en")
    assert (found["text"], found["language"], found["speaker"]) == ("said", "en", "s")
    assert found["source"] == {"audio": "a/x.wav", "text": "a/x.lab", "sample_rate": 48000, "text_was": 5}
