"""tools/adopting/judging.py: a clip takes over a line that fits its audio, and is made again for a reason otherwise."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from support.old_output import BICODEC, PAIRS, adopting_spec, bicodec_line, pair_line, say
from support.small_run import mulaw_spec, wav
from support.tars import audio_file, pyav_file

from audio_tokenizers.errors import ClipError
from jobs.clip_group import Clip
from jobs.records import TokenRecord, decode_record, encode_record
from jobs.sidecars import Annotations
from jobs.spec import TokenizeSpec, adopting
from tools.adopting.judging import REASONS, Adopted, MadeAgain, judge_clip
from tools.adopting.old_lines import OldLine, UnfitError, read_old_line

SAMPLES = 80


def clip(audio: bytes | None = None, fault: ClipError | None = None, text: str | None = "é 語") -> Clip:
    """A clip of SAMPLES at 8 kHz, or of this audio."""
    data = None if fault is not None else io.BytesIO(wav(SAMPLES) if audio is None else audio)
    return Clip(0, "x/a.wav", data, fault, Annotations(text, "zh", b'{"speaker":3}'))


def codec(**changed: object) -> OldLine:
    """A line of mulaw's tokens."""
    found = {"tar_file": "1.tar", "audio_file": "a.wav", "num_samples": SAMPLES, "sample_rate": 8000}
    return read_old_line(say({**found, "tokens": [[7] * SAMPLES], "token_shape": [1, SAMPLES], **changed}))


def judged(*lines: OldLine | UnfitError, spec: TokenizeSpec | None = None, **about: Any) -> Adopted | MadeAgain:
    return judge_clip(clip(**about), lines, spec or adopting_spec(), "/d/1.tar")


def again(*lines: OldLine | UnfitError, **settings: Any) -> tuple[str, str]:
    """Why the clip is made again."""
    found = judged(*lines, **settings)
    assert isinstance(found, MadeAgain)
    assert found.reason in REASONS
    return found.reason, found.words


def taken(*lines: OldLine | UnfitError, **settings: Any) -> TokenRecord:
    """The record that the partial gets, which is as our own code would write it."""
    found = judged(*lines, **settings)
    assert isinstance(found, Adopted)
    record = decode_record(found.line)
    assert isinstance(record, TokenRecord)
    assert encode_record(record) == found.line
    assert found.seconds == record.num_samples / 8000
    return record


def test_a_line_that_fits() -> None:
    """Its tokens and length; names, text and metadata are those of the tar; the note says who made the tokens."""
    record = taken(codec())
    assert (record.tar_file, record.audio_file, record.num_samples, record.sample_rate) == ("/d/1.tar", "x/a.wav", 80, 8000)
    assert bytes(record.values["tokens"]) == b"[[" + b",".join([b"7"] * SAMPLES) + b"]]"
    assert (record.text, record.language, record.metadata, record.notes) == ("é 語", "zh", {"speaker": 3}, ("adopted",))


def test_no_line_or_none_that_can_be_used() -> None:
    """Nothing, the old tool's error, tokens out of range, and a line that has changed since it was found."""
    assert again() == ("no_line", "no line names it")
    assert again(codec(error="cut")) == ("error", "cut")
    assert again(codec(tokens=[[256] * SAMPLES])) == (
        "tokens",
        "tokens: expected 1 list of integers in 0..255, found 1 list of 80 in 256..256",
    )
    assert again(UnfitError("not a JSON object")) == ("tokens", "not a JSON object")


def test_several_lines_of_one_clip() -> None:
    """Equal lines are one; an error before a good line does not matter; lines that differ say nothing."""
    assert taken(codec(), codec()) == taken(codec(error="out of memory"), codec(), codec(tokens=[[1.5]])) == taken(codec())
    for other in (codec(tokens=[[8] * SAMPLES]), codec(num_samples=SAMPLES + 1)):
        assert again(codec(), other)[0] == "contradiction"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_samples": 8000}, "num_samples is 8000, its audio has about 80"),
        ({"num_samples": -1}, "num_samples is -1"),
        ({"num_samples": 80.0}, "num_samples is 80.0"),
        ({"num_samples": True}, "num_samples is true"),
        ({"num_samples": "80"}, 'num_samples is "80"'),
        ({"num_samples": None}, "num_samples is null"),
        ({"num_samples": 10**20}, "num_samples is 100000000000000000000"),
        ({"sample_rate": 24000}, "sample_rate is 24000, expected 8000"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"tokens": [[7] * 60], "token_shape": [1, 60]}, "80 samples became 60 frames, expected about one per 1"),
    ],
)
def test_a_length_that_does_not_fit(changed: dict[str, object], words: str) -> None:
    """Of the audio and of the tokens: such a line is another clip's, or was cut."""
    reason, found = again(codec(**changed))
    assert reason == "length"
    assert words in found


def test_a_line_without_a_length() -> None:
    """A key that is missing is no length."""
    values = {key: value for key, value in codec().values.items() if key != "num_samples"}
    line = OldLine("higgs", "a.wav", "1.tar", None, values)
    assert again(line) == ("length", "num_samples is nothing, its audio has about 80")


def test_decoders_differ_by_the_padding_of_an_mp3() -> None:
    """Some keep the encoder's delay: a length that is off by less than 0.1 s is the old tool's own, and stays."""
    audio = pyav_file(np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32), 16000, "mp3", "libmp3lame")
    for samples in (8000, 8000 + 700, 8000 - 700):
        record = taken(codec(num_samples=samples, tokens=[[7] * samples], token_shape=[1, samples]), audio=audio)
        assert record.num_samples == samples
    assert again(codec(num_samples=9000, tokens=[[7] * 9000], token_shape=[1, 9000]), audio=audio)[0] == "length"


def test_audio_that_the_run_would_judge_otherwise() -> None:
    """What cannot be decoded, lacks something, is too short or too long for the recipe: the run makes the line."""
    assert again(codec(), fault=ClipError("decode", "a link to nothing")) == ("audio", "a link to nothing")
    assert again(codec(), audio=b"no audio")[1].startswith("decode: ")
    cut = audio_file(np.zeros(8000, np.float32), 8000, "FLAC")[:-50]
    line = codec(num_samples=8000, tokens=[[7] * 8000], token_shape=[1, 8000])
    assert again(line, audio=cut)[0] == "audio"
    assert again(codec(), spec=adopting(mulaw_spec(max_duration=0.001), "higgs"))[1] == "too_long: longer than 0.001 s"
    assert again(codec(), audio=wav(0))[1] == "empty: the file has no samples"


def test_bicodec() -> None:
    """The length is the audio's, at the backend's rate, and the tokens must fit it."""
    spec = adopting_spec(BICODEC)
    record = taken(read_old_line(say(bicodec_line("é 語", SAMPLES))), spec=spec)
    assert (record.num_samples, list(record.values)) == (SAMPLES, ["global_tokens", "semantic_tokens"])
    resampled = taken(read_old_line(say(bicodec_line("é 語", SAMPLES))), spec=spec, audio=wav(2 * SAMPLES, rate=16000))
    assert resampled.num_samples == SAMPLES
    assert again(read_old_line(say(bicodec_line("é 語", 2 * SAMPLES))), spec=spec)[0] == "length"
    assert again(read_old_line(say(bicodec_line("é 語", SAMPLES, global_tokens=[1]))), spec=spec)[0] == "length"


def test_pairs() -> None:
    """Text and rate are compared too: they are beside the tokens, and the tar has them."""
    spec = adopting_spec(PAIRS)
    record = taken(read_old_line(say(pair_line("a", " é 語 ", SAMPLES))), spec=spec)
    assert (record.num_samples, list(record.values)) == (SAMPLES, ["tokens"])
    assert again(read_old_line(say(pair_line("a", "other", SAMPLES))), spec=spec)[0] == "text"
    assert again(read_old_line(say(pair_line("a", "é 語", SAMPLES))), spec=spec, text=None)[0] == "text"
    assert again(read_old_line(say(pair_line("a", "é 語", SAMPLES, sr=48000))), spec=spec) == (
        "length",
        "its line has the rate 48000, its file 8000 Hz",
    )


def test_keys_stand_in_the_order_of_our_records() -> None:
    """Whatever the order in the old line."""
    line = json.dumps(dict(reversed(bicodec_line("é 語", SAMPLES).items()))).encode()
    assert list(taken(read_old_line(line), spec=adopting_spec(BICODEC)).values) == ["global_tokens", "semantic_tokens"]
