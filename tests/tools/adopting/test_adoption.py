"""tools/adopting/adoption.py: a whole old output: which lines are whose, and what is refused before anything is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support.committed_runs import spec_with
from support.old_output import (
    BICODEC,
    PAIRS,
    adopting_spec,
    bicodec_line,
    codec_lines,
    pair_line,
    say,
    talk_tar,
    whole_tar,
    write_lines,
)
from support.runs import tree

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from hpc.run import ListedTar
from jobs.spec import adopting
from tools.adopting.adoption import Adoption, adopt_output


def adopt(old: Path, tars: list[Path], fields: tuple[Field, ...] | None = None, **settings: Any) -> Adoption:
    listed = [ListedTar(str(tar), f"{number}-{tar.stem}") for number, tar in enumerate(tars)]
    return adopt_output(old, listed, old.parent / "tokens", adopting_spec(fields), **settings)


def committed(found: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.read_bytes().splitlines()]


class TestCodecLines:
    def test_tars_that_have_moved(self, tmp_path: Path) -> None:
        """A tar is known by its path, or else by its name without suffix; partial and finished files are used together."""
        tars = [whole_tar(tmp_path / "new" / f"{name}.tar", 3) for name in ("1", "2")]
        one, two = (codec_lines(tar, tmp_path / "reference") for tar in tars)
        moved = [{**line, "tar_file": f"/gone/{Path(line['tar_file']).name}.gz"} for line in two]
        write_lines(tmp_path / "old" / "1.jsonl", one)
        write_lines(tmp_path / "old" / "2.jsonl.partial", moved[:2])
        write_lines(tmp_path / "old" / "2.jsonl", [*moved[2:], say(moved[0])[:50]])
        before = tree(tmp_path / "old")
        found = adopt(tmp_path / "old", tars)
        assert (found.adopted, found.tars, found.committed, found.faulty_lines, found.unused_lines) == (6, 2, 2, 1, 0)
        assert found.line_examples == [f"{tmp_path}/old/2.jsonl: line 2: not a JSON object (Input data was truncated)"]
        assert tree(tmp_path / "old") == before

    def test_one_file_for_many_tars(self, tmp_path: Path) -> None:
        """A merged file is one of any name."""
        tars = [whole_tar(tmp_path / f"{name}.tar", 2) for name in ("1", "2")]
        lines = [line for tar in tars for line in codec_lines(tar, tmp_path / "reference")]
        write_lines(tmp_path / "old" / "all.jsonl", lines)
        assert adopt(tmp_path / "old" / "all.jsonl", tars).committed == 2

    def test_lines_of_another_tar(self, tmp_path: Path) -> None:
        """In a file that is named after a tar, and of a tar that is not in the list; clips that the tar does not have."""
        tars = [whole_tar(tmp_path / f"{name}.tar", 2) for name in ("1", "2")]
        one, two = (codec_lines(tar, tmp_path / "reference") for tar in tars)
        wrong = [two[0], {**one[0], "audio_file": "900.wav"}]
        write_lines(tmp_path / "old" / "1.jsonl", [*wrong, one[1]])
        write_lines(tmp_path / "old" / "3.jsonl", [{**one[0], "tar_file": "/d/3.tar"}])
        found = adopt(tmp_path / "old", tars)
        assert (found.adopted, found.made_again, found.without_lines) == (1, {"no_line": 1}, 1)
        assert (found.faulty_lines, found.unused_lines) == (1, 2)
        assert found.line_examples[0].endswith("its file is named after another tar")
        assert found.line_examples[1] == f"{tmp_path}/old/1.jsonl: line 2: no clip that was looked for"

    def test_two_tars_of_one_name(self, tmp_path: Path) -> None:
        """A path says which; a name alone does not."""
        tars = [whole_tar(tmp_path / folder / "1.tar", 2) for folder in ("a", "b")]
        one, two = (codec_lines(tar, tmp_path / folder) for tar, folder in zip(tars, ("ra", "rb"), strict=True))
        write_lines(tmp_path / "old" / "1.jsonl", [*one, {**two[0], "tar_file": "/gone/1.tar"}])
        found = adopt(tmp_path / "old", tars)
        assert (found.adopted, found.committed, found.without_lines, found.faulty_lines) == (2, 1, 1, 1)
        assert found.line_examples[0].endswith("and the list has 2 tars of this name")

    def test_what_is_committed_is_left_alone(self, tmp_path: Path) -> None:
        """The same command again adopts nothing, and changes nothing."""
        tars = [whole_tar(tmp_path / f"{name}.tar", 2) for name in ("1", "2")]
        for tar in tars:
            write_lines(tmp_path / "old" / f"{tar.stem}.jsonl", codec_lines(tar, tmp_path / "reference"))
        assert adopt(tmp_path / "old", tars[:1]).committed == 1
        before = tree(tmp_path / "tokens")
        found = adopt(tmp_path / "old", tars[:1])
        assert (found.adopted, found.left_alone, found.made_again, found.unused_lines) == (0, 1, {}, 2)
        assert tree(tmp_path / "tokens") == before

    @pytest.mark.slow
    def test_several_processes_do_the_same(self, tmp_path: Path) -> None:
        """They share the index, and their results are put together in order."""
        tars = [whole_tar(tmp_path / f"{name}.tar", 3) for name in "123"]
        for tar in tars:
            write_lines(tmp_path / "old" / f"{tar.stem}.jsonl", codec_lines(tar, tmp_path / "reference")[:2])
        tars[1].write_bytes(tars[1].read_bytes()[:700])
        told: list[int] = []
        found = adopt(tmp_path / "old", tars, workers=2, tell=told.append)
        assert (found.adopted, found.made_again, len(found.problems)) == (4, {"no_line": 2}, 1)
        assert found.examples["no_line"].startswith(f"002.wav of {tars[0]}")
        assert sum(told) > 0


class TestRefusals:
    """Nothing is written."""

    def refused(self, old: Path, tars: list[Path], fields: tuple[Field, ...] | None = None) -> str:
        with pytest.raises(UsageError) as error:
            adopt(old, tars, fields, prepare=lambda: pytest.fail("something is written"))
        assert not (old.parent / "tokens").exists()
        return str(error.value)

    def test_another_backend(self, tmp_path: Path) -> None:
        """Which lines were found, and which were expected."""
        tar = whole_tar(tmp_path / "1.tar", 2)
        write_lines(tmp_path / "old" / "x_0.jsonl", [bicodec_line("a", 80)])
        words = self.refused(tmp_path / "old", [tar])
        assert "expected lines of tokenize_audio.py (tokens of a codec), which the backend mulaw continues" in words
        assert "found 1 of extract_tar_tokens.py (BiCodec): give the backend of these" in words

    def test_codebooks_and_ranges_of_another_codec(self, tmp_path: Path) -> None:
        """All lines are wrong in one way: not a broken line, but another codec."""
        tar = whole_tar(tmp_path / "1.tar", 2)
        lines = [{**line, "tokens": [[500, 900]] * 8, "token_shape": [8, 2]} for line in codec_lines(tar, tmp_path / "r")]
        write_lines(tmp_path / "old" / "1.jsonl", lines)
        words = self.refused(tmp_path / "old", [tar])
        assert "no line of the first 2 with tokens fits the backend mulaw: 000.wav: tokens: " in words
        assert "expected 1 list of integers in 0..255, found 8 lists of 2 in 500..900" in words

    def test_nothing_that_can_be_read(self, tmp_path: Path) -> None:
        """An example of what was found."""
        tar = whole_tar(tmp_path / "1.tar", 2)
        write_lines(tmp_path / "old" / "1.jsonl", [b'{"tar_file": "1.ta'])
        assert "found none: " in self.refused(tmp_path / "old", [tar])
        (tmp_path / "old" / "1.jsonl").write_bytes(b"")
        assert self.refused(tmp_path / "old", [tar]).endswith("found none")

    def test_records_that_no_old_tool_made(self, tmp_path: Path) -> None:
        """Before a file is looked for."""
        fields = (*PAIRS, Field(name="vq02", form="list", codebook_size=1024))
        with pytest.raises(UsageError, match="no older tool's lines have just these"):
            adopt_output(tmp_path, [], tmp_path / "tokens", adopting(spec_with(fields), "x"))


def test_bicodec_lines_are_found_by_their_text(tmp_path: Path) -> None:
    """They name neither tar nor member. A text that several clips have, in any of the tars, says of none which is meant."""
    one = talk_tar(tmp_path / "1.tar", {"a": ("eins", 80), "b": ("zwei", 88), "c": ("ja", 96)})
    two = talk_tar(tmp_path / "2.tar", {"d": ("drei", 80), "e": ("ja", 96), "f": ("", 80)})
    lines = [bicodec_line(text, samples) for text, samples in (("drei", 80), ("eins", 80), ("zwei", 160), ("ja", 96))]
    write_lines(tmp_path / "old" / "audio_0.jsonl", [*lines[:2], bicodec_line("vier", 80)])
    write_lines(tmp_path / "old" / "audio_1.jsonl", lines[2:])
    found = adopt(tmp_path / "old", [one, two], BICODEC)
    assert (found.adopted, found.made_again) == (2, {"ambiguous": 2, "length": 1, "no_line": 1})
    assert found.examples["ambiguous"].endswith("several clips of these tars have its text")
    assert (found.committed, found.unused_lines) == (0, 1)
    (line,) = committed(tmp_path / "tokens" / "0-1.jsonl.partial")
    assert (line["audio_file"], line["text"], line["language"], line["notes"]) == ("a.wav", "eins", "zh", ["adopted"])


def test_pairs_in_shards(tmp_path: Path) -> None:
    """Gzip shards, with their sentinels or cut: a clip is known by the path that tools.pack notes, else by its own name."""
    one = talk_tar(tmp_path / "1.tar", {"a": ("eins", 80), "b": ("zwei", 120)}, packed=True)
    two = talk_tar(tmp_path / "2.tar", {"voices/c": ("drei", 80), "voices/d": ("vier", 80)})
    old = tmp_path / "old"
    old.mkdir()
    lines = {name: say(pair_line(name, text, n)) for name, text, n in (("a", "eins", 80), ("b", "zwei", 120))}
    (old / "shard-0.jsonl.gz").write_bytes(gzip.compress(lines["a"]) + gzip.compress(lines["b"]))
    (old / "shard-0.ok").touch()
    whole = say(pair_line("c", "drei", 80)) + say(pair_line("d", "vier", 80, tokens="<audio_1>" * 10))
    (old / "shard-1.jsonl.gz").write_bytes(gzip.compress(whole)[:-8])
    found = adopt(old, [one, two], PAIRS)
    assert (found.adopted, found.committed, found.made_again) == (3, 1, {"tokens": 1})
    assert "gzip data are cut" in found.line_examples[0]
    assert [line["audio_file"] for line in committed(tmp_path / "tokens" / "0-1.jsonl")] == ["a.wav", "b.wav"]
    assert [line["audio_file"] for line in committed(tmp_path / "tokens" / "1-2.jsonl.partial")] == ["voices/c.wav"]
