"""tools/showing/text.py: the words, exactly, for small files and clips."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.cells import cell_len

from audio_tokenizers.base import Field
from hpc.progress import TarState
from jobs.damage import Damage
from jobs.record_fields import to_json
from jobs.records import ErrorRecord, Tally, TokenRecord
from tools.showing.histograms import Style, count_codes
from tools.showing.text import Clip, Summary, render_clip, render_file

CODES = Field(name="tokens", form="codes", width=2, codebook_size=8, samples_per_item=4)
GLOBAL = Field(name="global_tokens", form="list", codebook_size=4, items=3)
SPEECH = Field(name="speech", form="audio_string", lowest=10, codebook_size=5, samples_per_item=8)
LAYER = Field(name="layer", form="features", width=2, dtype="float16", samples_per_item=8)
FIELDS = (CODES, GLOBAL, SPEECH, LAYER)
ARRAYS = {
    "tokens": np.array([[0, 1, 2, 3], [7, 7, 7, 0]]),
    "global_tokens": np.array([1, 1, 3]),
    "speech": np.array([10, 14]),
    "layer": np.array([[0.5, -1], [2, 0.25]], np.float16),
}
RULER = Style(width=72)


def record(arrays: dict[str, Any] = ARRAYS, fields: tuple[Field, ...] = FIELDS, **rest: Any) -> TokenRecord:
    """A clip of two seconds."""
    values = {key: msgspec.Raw(text) for key, text in to_json(fields, arrays, 0)[0].items()}
    return TokenRecord(
        **{"tar_file": "/d/a.tar", "audio_file": "x/1.wav", "num_samples": 16, "sample_rate": 8, "values": values, **rest}
    )


BROKEN = ErrorRecord(tar_file="/d/a.tar", audio_file="x/2.wav", error="not decodable", error_kind="decode")


def summary(*records: TokenRecord | ErrorRecord, state: TarState) -> Summary:
    """Of records that all have ARRAYS, or are errors."""
    tally = Tally()
    for each in records:
        tally.add(each)
    good = len(records) - sum(tally.errors.values())
    counts = {key.name: good * count_codes(np.atleast_2d(ARRAYS[key.name]), key) for key in FIELDS if key is not LAYER}
    items = Counter({name: ARRAYS[name].shape[-1] * good for name in counts} | {"layer": 2 * good})
    return Summary(
        state=state,
        path=Path("/t/a.jsonl"),
        tally=tally,
        shortest=2,
        longest=2,
        items=items,
        counts=counts,
        first=[*records],
    )


def test_a_file() -> None:
    """State, clips, errors by kind, duration, per key its rate and the use of its codebooks, and the first clips."""
    found = summary(record(text="good morning"), BROKEN, state=TarState("/d/a.tar", "a", "committed", 2, None, None))
    assert render_file(found, FIELDS, RULER) == (
        "a: committed\n"
        "  tar       /d/a.tar\n"
        "  file      /t/a.jsonl\n"
        "  clips     2, 1 error among them (decode 1)\n"
        "  audio     0:00:02 (2.0 s) became tokens, clips of 2.000 to 2.000 s\n"
        "\n"
        "tokens: 2 codebooks, 2.0 frames per second, 4.0 tokens per second\n"
        "    codebook    used  perplexity  codes 0 to 7, a column each\n"
        "           0  4 of 8         4.0  |████    |\n"
        "           1  2 of 8         1.8  |▃      █|\n"
        "\n"
        "global_tokens: a list, 3 tokens per clip\n"
        "    codebook    used  perplexity  codes 0 to 3, a column each\n"
        "           0  2 of 4         1.9  | █ ▄|\n"
        "\n"
        "speech: a string of <audio_N>, 1.0 tokens per second\n"
        "    codebook    used  perplexity  codes 10 to 14, a column each\n"
        "           0  2 of 5         2.0  |█   █|\n"
        "\n"
        "layer: float16, 2 columns, 1.0 rows per second\n"
        "\n"
        "clips\n"
        "    0      2.000 s  x/1.wav  good morning\n"
        "    1        error  x/2.wav  decode: not decodable"
    )


def test_a_file_that_is_not_as_it_should_be() -> None:
    """What is wrong stands first; a file of errors alone has no rates, an empty one no clips."""
    cut = TarState("/d/a.tar", "a", "partial", 7, None, "there is no such tar")
    assert render_file(summary(BROKEN, state=cut), FIELDS, RULER) == (
        "a: partial, not finished yet\n"
        "  problem   there is no such tar\n"
        "  tar       /d/a.tar\n"
        "  file      /t/a.jsonl\n"
        "  clips     1, 1 error among them (decode 1)\n"
        "  damaged   line 2 is no valid record; it and what follows are not counted\n"
        "\n"
        "clips\n"
        "    0        error  x/2.wav  decode: not decodable"
    )
    empty = render_file(summary(state=TarState("/d/a.tar", "a", "partial", 0, None, None)), FIELDS, RULER)
    assert empty.endswith("\n  clips     0, 0 errors among them")


def test_a_list_of_clips_fits_the_terminal() -> None:
    """Long transcripts are cut where the line ends, those whose signs are two columns wide too; columns stand in line."""
    texts = ["word " * 40, "你好世界" * 20, "short"]
    names = ["a.wav", "很长的名字.wav", "b.wav"]
    records = [record(text=text, audio_file=name) for text, name in zip(texts, names, strict=True)]
    lines = render_file(
        summary(*records, state=TarState("/d/a.tar", "a", "committed", 9, None, None)), FIELDS, RULER
    ).splitlines()[-4:]
    assert lines[0] == "clips"
    assert max(map(cell_len, lines)) <= 72
    assert [line[-3:] for line in lines[1:]] == ["...", "...", "ort"]
    assert {cell_len(line[: line.index(start)]) for line, start in zip(lines[1:], ["word", "你", "short"], strict=True)} == {
        36
    }


def test_a_clip() -> None:
    """One record whole: where it stands, how long it is, its annotations, and each key with shape, rate and first tokens."""
    clip = Clip(
        name="a",
        index=3,
        record=record(text="good morning", language="en", metadata={"speaker": "x", "snr": 1.5}),
        floats={"layer": ARRAYS["layer"]},
    )
    assert render_clip(clip, FIELDS, RULER) == (
        "a: clip 3\n"
        "  tar       /d/a.tar\n"
        "  member    x/1.wav\n"
        "  duration  2.000 s, 16 samples at 8 Hz\n"
        "  language  en\n"
        "  text      good morning\n"
        '  metadata  speaker: "x"\n'
        "            snr: 1.5\n"
        "\n"
        "tokens: [2, 4], 2 codebooks, 2.0 frames per second, 4.0 tokens per second\n"
        "    first of codebook 0: 0 1 2 3\n"
        "    first of codebook 1: 7 7 7 0\n"
        "    codebook    used  perplexity  codes 0 to 7, a column each\n"
        "           0  4 of 8         4.0  |████    |\n"
        "           1  2 of 8         1.8  |▃      █|\n"
        "\n"
        "global_tokens: [3], a list, 3 tokens per clip\n"
        "    first: 1 1 3\n"
        "    codebook    used  perplexity  codes 0 to 3, a column each\n"
        "           0  2 of 4         1.9  | █ ▄|\n"
        "\n"
        "speech: [2], a string of <audio_N>, 1.0 tokens per second\n"
        "    first: 10 14\n"
        "    codebook    used  perplexity  codes 10 to 14, a column each\n"
        "           0  2 of 5         2.0  |█   █|\n"
        "\n"
        "layer: [2, 2], float16, 2 columns, 1.0 rows per second\n"
        "    minimum -1, mean 0.4375, maximum 2"
    )


def test_a_clip_with_little_to_say() -> None:
    """An error has its kind and words; what a clip lacks is said; of floats that cannot be had the reason is."""
    broken = render_clip(Clip(name="a", index=0, record=BROKEN), FIELDS, RULER)
    assert broken.splitlines()[1:] == ["  tar       /d/a.tar", "  member    x/2.wav", "  error     decode: not decodable"]
    bare = render_clip(Clip(name="a", index=0, record=record(), floats={"layer": "not there"}), FIELDS, RULER)
    assert "  language  not stated\n  text      none\n  metadata  none\n" in bare
    assert bare.endswith("\nlayer: [2, 2], float16, 2 columns, 1.0 rows per second\n    not there")


def test_many_codebooks_and_long_rows() -> None:
    """The first tokens fill a line each, of the first codebooks only; histograms there are of all."""
    field = Field(name="tokens", form="codes", width=32, codebook_size=1024, samples_per_item=1)
    codes = np.random.default_rng(0).integers(0, 1024, (32, 500))
    clip = Clip(name="a", index=0, record=record({"tokens": codes}, (field,), num_samples=500))
    lines = render_clip(clip, (field,), RULER).splitlines()
    at = lines.index("    and so on for 24 more codebooks")
    for number, line in enumerate(lines[at - 8 : at]):
        label, _, numbers = line.partition(": ")
        assert label == f"    first of codebook {number}"
        assert len(line) <= 72
        *shown, dots = numbers.split(" ")
        assert dots == "..."
        assert [int(word) for word in shown] == codes[number, : len(shown)].tolist()
        assert len(shown) > 8
    assert len(lines) - at - 2 == 32


def test_words_of_a_data_set_do_not_steer_the_terminal() -> None:
    """Escape sequences, line ends and signs that turn the direction of writing come out as escapes."""
    clip = Clip(
        name="a", index=0, record=record(text="a\x1b[31mb\nc\u202ed é 語", metadata={"k\x07": "\x9b"}), floats={"layer": ""}
    )
    text = render_clip(clip, FIELDS, RULER)
    assert '  text      a\\x1b[31mb\\nc\\u202ed é 語\n  metadata  k\\x07: "\\x9b"\n' in text
    state = TarState("/d/a.tar", "a", "committed", 1, None, None)
    listed = render_file(summary(record(text="a\x1bb", audio_file="n\nm"), state=state), FIELDS, RULER)
    assert listed.endswith("    0      2.000 s  n\\nm  a\\x1bb")


def test_damage() -> None:
    """What is missing is told of a file, of each clip in the list, and of a clip with the reason."""
    damaged = record(text="good morning", damage=Damage(0.72, "frames that cannot be decoded"))
    found = summary(damaged, record(), state=TarState("/d/a.tar", "a", "committed", 2, None, None))
    lines = render_file(found, FIELDS, RULER).splitlines()
    assert "  missing   0.720 s of 1 damaged clip, kept" in lines
    assert lines[-2].split() == ["0", "2.000", "s", "x/1.wav", "(0.720", "s", "missing)", "good", "morning"]
    shown = render_clip(Clip(name="a", index=0, record=damaged, floats={"layer": ""}), FIELDS, RULER)
    assert "  missing   0.720 s: frames that cannot be decoded" in shown


def test_notes() -> None:
    """What the record notes of a clip is said in words."""
    noted = record(notes=("opposite_phase",))
    lines = render_clip(Clip(name="a", index=0, record=noted, floats={"layer": ""}), FIELDS, RULER).splitlines()
    assert "  note      a clip whose channels cancel each other when mixed (--channel first hears one)" in lines
