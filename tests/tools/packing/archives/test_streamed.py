import io
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.hostile_archives import Entry, pairs
from support.sentences import SENTENCES

from audio_tokenizers.errors import InfrastructureError, UsageError
from tools.packing.archives import safety, streamed
from tools.packing.archives.listing import ArchiveMember, MemberData, list_members
from tools.packing.archives.streamed import StreamedSource
from tools.packing.pairs import LeftOut, Pair, SourceOptions

ARCHIVE = Path("x.7z")


class Passes:
    """An archive in memory, and which members were asked for in each pass over it."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.members = [ArchiveMember(entry.name, len(entry.data or b""), entry.crc) for entry in entries]
        self.asked: list[list[str]] = []

    @contextmanager
    def open(self, wanted: Collection[int]) -> Iterator[Iterator[tuple[int, MemberData]]]:
        self.asked.append([self.entries[index].name for index in sorted(wanted)])
        data = [
            (i, MemberData(ARCHIVE, self.members[i], io.BytesIO(self.entries[i].data or b"").read)) for i in sorted(wanted)
        ]
        yield iter(data)

    def source(self, scratch: Path, tables: dict[int, bytes] | None = None) -> StreamedSource:
        listing = list_members(ARCHIVE, self.members, SourceOptions(scratch=scratch))
        return StreamedSource(ARCHIVE, "x", listing, self.open, scratch, tables or {})


def read(source: StreamedSource, start: int = 0) -> list[tuple[str, bytes, str | None]]:
    found = []
    for item in source.items(start):
        pair = item()
        assert isinstance(pair, Pair)
        audio = pair.audio
        if not isinstance(audio, bytes):
            with audio:
                found.append((pair.id, audio.read(), pair.text))
        else:
            found.append((pair.id, audio, pair.text))
    return found


def expected(entries: list[Entry]) -> list[tuple[str, bytes, str]]:
    return [(entry.name[:-4], entry.data or b"", f"第{number}句") for number, entry in enumerate(entries[::2])]


ORDERS = {
    "audio before its text": pairs(6),
    "text before its audio": [entry for i in range(0, 12, 2) for entry in reversed(pairs(6)[i : i + 2])],
    "all texts first": [*pairs(6)[1::2], *pairs(6)[::2]],
    "all audio first": [*pairs(6)[::2], *pairs(6)[1::2]],
}


@pytest.mark.parametrize("memory", [0, 2500, 1 << 20])
@pytest.mark.parametrize("large", [1002, 1 << 20])
@pytest.mark.parametrize("order", ORDERS)
def test_one_pass_gives_all_pairs_whatever_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, memory: int, large: int
) -> None:
    """With much memory or none, and nothing is left of what waited in files."""
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", memory)
    monkeypatch.setattr(streamed, "AUDIO_IN_MEMORY", large)
    passes = Passes(ORDERS[order])
    source = passes.source(tmp_path)
    assert read(source) == expected(pairs(6))
    assert len(passes.asked) == 1 + 1  # the texts alone, since two of them are no UTF-8
    assert list(tmp_path.iterdir()) == []


def test_the_encoding_is_that_of_all_texts(tmp_path: Path) -> None:
    """They have a pass of their own then, the first one included, and only one."""
    entries = [Entry("0.wav", b"x"), Entry("0.lab", "はい".encode("euc_jp"))]
    for number, sentence in enumerate(SENTENCES["ja"], 1):
        entries += [Entry(f"{number}.wav", b"x"), Entry(f"{number}.lab", sentence.encode("euc_jp"))]
    passes = Passes(entries)
    assert [text for _, _, text in read(passes.source(tmp_path))] == ["はい", *SENTENCES["ja"]]
    assert len(passes.asked) == 2
    assert passes.asked[1] == [entry.name for entry in entries[1::2]]


def test_an_item_comes_with_the_last_of_its_members(tmp_path: Path) -> None:
    """Not later; and of items that one member completes, that whose audio came first."""
    entries = [Entry("b.wav", b"b"), Entry("a.wav", b"a"), Entry("a.lab", b"a"), Entry("c.lab", b"c"), Entry("b.lab", b"b")]
    entries += [Entry("c.wav", b"c")]
    assert [found[0] for found in read(Passes(entries).source(tmp_path))] == ["a", "b", "c"]


def test_from_any_number_on_the_items_are_the_same(tmp_path: Path) -> None:
    """And only what they need is asked for."""
    passes = Passes(ORDERS["all audio first"])
    source = passes.source(tmp_path)
    everything = read(source)
    for start in range(7):
        assert read(source, start) == everything[start:]
    assert passes.asked[-1] == ["s1/c0005.wav", "s1/c0005.lab"]
    assert len(passes.asked) == 1 + 6 + 1  # there is no pass for nothing; one is for the encoding of texts


def test_only_what_is_planned_is_asked_for(tmp_path: Path) -> None:
    """Other files pass unread."""
    passes = Passes([*pairs(1), Entry("x.bin", b"x"), Entry("lonely.wav", b"x"), Entry("lonely.lab2", b"x")])
    assert len(read(passes.source(tmp_path))) == 1
    assert passes.asked == [["s0/c0000.wav", "s0/c0000.lab"]]


def test_a_table_is_read_first_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """Once, in a pass of its own; or not at all, if its content is there already."""
    entries = [
        Entry("wavs/1.wav", b"1"),
        Entry("wavs/2.wav", b"2"),
        Entry("metadata.csv", "1|a|一\n2|b|二\n3|c|三".encode()),
    ]
    passes = Passes(entries)
    source = passes.source(tmp_path)
    assert read(source) == [("wavs/1", b"1", "一"), ("wavs/2", b"2", "二")]
    assert passes.asked == [["metadata.csv"], ["wavs/1.wav", "wavs/2.wav"]]
    assert [(left.reason, left.name) for left in source.left_out] == [("text_without_audio", "wavs/3")]
    passes = Passes(entries)
    assert passes.source(tmp_path, {2: entries[2].data or b""}).left_out == source.left_out
    assert passes.asked == []


def test_a_text_that_leaves_its_audio_out_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item may be left out only when its text is read."""
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", 0)
    source = Passes([Entry("a.wav", b"audio"), Entry("a.lab", b" ")]).source(tmp_path)
    [left] = [item() for item in source.items(0)]
    assert isinstance(left, LeftOut)
    assert (left.reason, left.name) == ("empty_text", "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_damage_comes_after_the_whole_items_before_it(tmp_path: Path) -> None:
    """What came out is right; what would not be, does not come."""
    entries = pairs(3)
    entries[4] = Entry(entries[4].name, entries[4].data, crc=1)
    items = Passes(entries).source(tmp_path).items(0)
    assert [getattr(next(items)(), "id", None) for _ in range(2)] == ["s0/c0000", "s1/c0001"]
    with pytest.raises(UsageError, match="broken"):
        next(items)


def test_files_that_wait_are_named_by_number_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the archive calls them."""
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", 0)
    items = Passes(ORDERS["all audio first"]).source(tmp_path).items(0)
    next(items)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{number:08d}" for number in range(6)]


def test_too_little_space_for_what_waits_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what waits at one time counts, and only if it does not fit into memory."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(safety, "SPACE_TO_SPARE", 0)
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
    for order in ("audio before its text", "text before its audio", "all texts first"):
        Passes(ORDERS[order]).source(tmp_path)
    with pytest.raises(InfrastructureError, match="5,000 bytes are free, but 6,015"):
        Passes(ORDERS["all audio first"]).source(tmp_path)
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", 10_000)
    Passes(ORDERS["all audio first"]).source(tmp_path)


def test_a_disk_that_fails_is_the_machines_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that is full, or a scratch folder that somebody removed."""
    monkeypatch.setattr(streamed, "WAITING_IN_MEMORY", 0)
    source = Passes(pairs(2)).source(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(InfrastructureError, match=r"00000000: No such file or directory; run the same command again"):
        read(source)
