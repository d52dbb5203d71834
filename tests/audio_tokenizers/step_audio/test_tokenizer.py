"""step_audio/tokenizer.py: StepFun's class, method by method, against what its own code gave."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support import golden_audio
from support.tiny_step_audio import build_step_audio

from audio_tokenizers.base import Utterance
from audio_tokenizers.errors import ClipError, ModelFilesError, UsageError
from audio_tokenizers.registry import complete_options
from audio_tokenizers.step_audio.backend import FACTORY
from audio_tokenizers.step_audio.tokenizer import StepAudioTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "step_audio.npz"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_step_audio(tmp_path_factory.mktemp("model"))


Golden = list[tuple[dict[str, Any], npt.NDArray[Any], str, list[int], list[int]]]


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> StepAudioTokenizer:
    return StepAudioTokenizer(str(model), device="cpu")


@pytest.fixture(scope="module")
def golden() -> Golden:
    """(case, wave, string, vq02, vq06) of each case."""
    with np.load(GOLDEN) as file:
        stored = {name: file[name] for name in file.files}
    found = []
    for number, case in enumerate(json.loads(str(stored["cases"]))):
        made = getattr(golden_audio, case["kind"])
        samples = made(case["samples"], case["start"]) if case["kind"] == "pcm" else made(case["samples"])
        wave = golden_audio.wave(samples)
        text = "".join(f"<audio_{token}>" for token in stored[f"tokens_{number}"])
        found.append((case, wave, text, stored[f"vq02_{number}"].tolist(), stored[f"vq06_{number}"].tolist()))
    return found


def clip(samples: int, start: int = 0) -> torch.Tensor:
    return torch.from_numpy(golden_audio.wave(golden_audio.pcm(samples, start)))[None]


def test_wav2token_gives_what_stepfuns_gave(tokenizer: StepAudioTokenizer, golden: Golden) -> None:
    """Both codebooks in full and the merged ids in StepFun's vocabulary, for each length class, rate and preparation."""
    for case, wave, text, vq02, vq06 in golden:
        found = tokenizer.wav2token(torch.from_numpy(wave)[None], case["rate"], case["trim"], case["energy_norm"])
        assert found[1:] == (vq02, vq06), case
        assert "".join(f"<audio_{token - 65536}>" for token in found[0]) == text
        assert tokenizer.merge_vq0206_to_token_str(vq02, vq06) == text


def test_defaults(tokenizer: StepAudioTokenizer, golden: Golden) -> None:
    """wav2token trims and normalises unless told otherwise, a call normalises only: both as upstream."""
    trimmed = next(case for case in golden if case[0]["trim"] and case[0]["energy_norm"] and case[0]["samples"] == 20_000)
    assert tokenizer.wav2token(trimmed[1][None], 16_000)[1:] == trimmed[3:]
    plain = next(case for case in golden if not case[0]["trim"] and case[0]["rate"] == 44_100)
    assert tokenizer(torch.from_numpy(plain[1])[None], 44_100) == plain[2]


def test_ids_are_shifted_apart(tokenizer: StepAudioTokenizer) -> None:
    """vq02 is in 65536..66559 and vq06 in 66560..70655, two and three in turn."""
    merged, vq02, vq06 = tokenizer.wav2token(clip(50_000), 16_000)
    groups = np.array(merged).reshape(-1, 5)
    assert len(groups) == min(len(vq02) // 2, len(vq06) // 3) > 20
    assert (groups[:, :2] - 65536).ravel().tolist() == vq02[: 2 * len(groups)]
    assert (groups[:, 2:] - 66560).ravel().tolist() == vq06[: 3 * len(groups)]


def test_a_call_gives_the_string_of_a_run(tokenizer: StepAudioTokenizer, model: Path) -> None:
    """The record of `--backend step_audio`, at any rate: tensors and arrays, with or without an axis of channels."""
    backend = FACTORY.load(complete_options(FACTORY, {"model_path": str(model)}), "cpu")
    for rate in (8000, 16_000, 24_000):
        wave = clip(60_000, 500)[0].numpy()
        (values,) = backend.encode_clips([Utterance(backend.resample(wave, rate))])
        expected = "".join(f"<audio_{token}>" for token in values["tokens"])
        for audio in (wave, wave[None], torch.from_numpy(wave), np.stack([wave, wave]), wave.astype(np.float64)):
            assert tokenizer(audio, rate) == expected


def test_each_step_by_itself(tokenizer: StepAudioTokenizer) -> None:
    """preprocess_wav, then a codebook at a time, is what wav2token gives."""
    audio = clip(70_000, 99)
    prepared = tokenizer.preprocess_wav(audio, 44_100)
    assert prepared.dtype == torch.float32
    assert (prepared.shape[0], prepared.shape[1] % 240) == (1, 0)
    assert prepared.abs().max() == pytest.approx(0.999)
    plain = tokenizer.preprocess_wav(audio, 16_000, enable_trim=False, energy_norm=False)
    assert torch.equal(plain, audio)
    _, vq02, vq06 = tokenizer.wav2token(audio, 44_100)
    assert tokenizer.get_vq02_code(prepared) == vq02
    assert tokenizer.get_vq06_code(prepared) == vq06


def test_sessions_give_what_stepfuns_gave(tokenizer: StepAudioTokenizer) -> None:
    """Call by call: codes come out as early as upstream's, whatever the pieces, and at the end the same rest is dropped."""
    lines = GOLDEN.with_name("step_audio_streams.json").read_text().splitlines()
    assert len(lines) > 10
    for stream in map(json.loads, lines):
        audio = clip(stream["samples"], stream["start"])
        start = 0
        found: list[Any] = []
        while start < stream["samples"]:
            end = start + stream["pieces"][len(found) % len(stream["pieces"])]
            found.append(tokenizer.get_vq02_code(audio[:, start:end], "session", is_final=end >= stream["samples"]))
            start = end
        assert found == stream["codes"], stream
        assert list(itertools.chain(*found)) == tokenizer.get_vq02_code(audio)


@pytest.mark.parametrize("pieces", [(3840,), (100, 5000), (1700,), (7680, 1, 20_000)])
def test_sessions(tokenizer: StepAudioTokenizer, pieces: tuple[int, ...]) -> None:
    """The codes of a clip's pieces are those of the whole clip, beside another session; the end closes a session."""
    audio = clip(31_000, 4)
    codes: list[int] = []
    start = number = 0
    while start < audio.shape[1]:
        end = start + pieces[number % len(pieces)]
        codes += tokenizer.get_vq02_code(audio[:, start:end], "one", is_final=end >= audio.shape[1])
        tokenizer.get_vq02_code(clip(4000, number), "two", is_final=False)
        start, number = end, number + 1
    assert codes == tokenizer.get_vq02_code(audio)
    assert list(tokenizer.vq02_sessions) == ["two"]
    del tokenizer.vq02_sessions["two"]
    assert tokenizer.get_vq02_code(clip(4000), "two", is_final=True) == tokenizer.get_vq02_code(clip(4000))


def test_pieces_without_a_session_are_forgotten(tokenizer: StepAudioTokenizer) -> None:
    """As upstream: each is the beginning of a clip, of which what is complete is given."""
    whole = tokenizer.get_vq02_code(clip(9000))
    for _ in range(2):
        assert tokenizer.get_vq02_code(clip(9000), is_final=False) == whole[:8]
        assert tokenizer.get_vq02_code(clip(9000), "", is_final=False) == whole[:8]
    assert not tokenizer.vq02_sessions
    assert tokenizer.get_vq02_code(clip(879)) == tokenizer.get_vq02_code(torch.zeros(1, 0)) == []


def test_threads_share_it(tokenizer: StepAudioTokenizer) -> None:
    """Whole clips and sessions from many threads at the same time: each has its own codes."""
    audio = [clip(6000 + 700 * n, 1000 * n) for n in range(6)]
    expected = [(tokenizer(wave, 16_000), tokenizer.get_vq02_code(wave)) for wave in audio]
    found: dict[int, tuple[str, list[int]]] = {}

    def work(number: int) -> None:
        wave = audio[number]
        text = tokenizer(wave, 16_000)
        codes: list[int] = []
        for start in range(0, wave.shape[1], 1000):
            final = start + 1000 >= wave.shape[1]
            codes += tokenizer.get_vq02_code(wave[:, start : start + 1000], f"thread {number}", is_final=final)
        found[number] = text, codes

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(audio))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(audio))] == expected


def test_labels(tokenizer: StepAudioTokenizer) -> None:
    """Each frame's nearest centre, and several samples keep their own lengths (upstream cuts all but the first wrongly)."""
    numbers = [5, 1023, 0, 77, 512]
    frames = tokenizer.kms[numbers] + 0.01
    assert tokenizer.kms.shape == (1024, 512)
    assert tokenizer.kmean_cluster(frames, tokenizer.kms) == numbers
    samples = [frames[None, :2], frames[None, 2:2], frames[None, 2:]]
    assert tokenizer.dump_label(samples, tokenizer.kms) == [[5, 1023], [], [0, 77, 512]]
    assert tokenizer.dump_label([], tokenizer.kms) == []


@pytest.mark.parametrize(("lengths", "groups"), [((0, 0), 0), ((1, 3), 0), ((2, 3), 1), ((5, 7), 2), ((4, 9), 2)])
def test_merging(tokenizer: StepAudioTokenizer, lengths: tuple[int, int], groups: int) -> None:
    """Whole groups only, those of vq06 from 1024 on."""
    text = tokenizer.merge_vq0206_to_token_str(list(range(lengths[0])), list(range(lengths[1])))
    one = [
        f"<audio_{2 * g}><audio_{2 * g + 1}>" + "".join(f"<audio_{1024 + 3 * g + i}>" for i in range(3)) for g in range(2)
    ]
    assert text == "".join(one[:groups])


def test_dither_is_off_unless_asked_for(model: Path, tokenizer: StepAudioTokenizer) -> None:
    """The same clip has the same tokens each time, with noise too; a stream has none."""
    noisy = StepAudioTokenizer(model, device="cpu", dither=1.0)
    silence = torch.zeros(1, 20_000)
    assert tokenizer(silence, 16_000) == tokenizer(silence, 16_000)
    assert noisy(silence, 16_000) == noisy(silence, 16_000) != tokenizer(silence, 16_000)
    with pytest.raises(UsageError, match="dither"):
        noisy.get_vq02_code(clip(4000), "live", is_final=False)


def test_bad_input(tokenizer: StepAudioTokenizer, tmp_path: Path) -> None:
    """Each is one message of what was expected."""
    with pytest.raises(UsageError, match=r"floats \[samples\] or \[channels, samples\], found int16 \[9\]"):
        tokenizer(np.zeros(9, np.int16), 16_000)
    with pytest.raises(UsageError, match=r"found float32 \[1, 1, 9\]"):
        tokenizer(torch.zeros(1, 1, 9), 16_000)
    with pytest.raises(UsageError, match=r"0\.\.1023, found 0\.\.1024"):
        tokenizer.merge_vq0206_to_token_str([0, 1024], [1, 2, 3])
    with pytest.raises(ClipError, match="without samples"):
        tokenizer(np.zeros(0), 16_000)
    with pytest.raises(ModelFilesError, match="linguistic_tokenizer"):
        StepAudioTokenizer(tmp_path, device="cpu")
