"""jobs/taste/batches.py: batches in order, read ahead by another thread, with true lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.taste_runs import Spoken, make_taste_run, some_speech
from support.tiny_speech_lm import build_speech_lm

from audio_tokenizers.errors import InfrastructureError
from jobs.taste.batches import collate, read_ahead
from jobs.taste.corpus import Corpus, open_corpus
from jobs.taste.lm_files import open_language_model


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    files = open_language_model(build_speech_lm(tmp_path / "model"))
    return open_corpus([make_taste_run(tmp_path / "run", {"a": speech()})], files)[0]


def speech() -> list[Spoken]:
    return some_speech(9)


def test_lengths_are_true_ones(corpus: Corpus) -> None:
    """Arrays are padded at their end only, and a cut to the length gives what was stored."""
    batch = collate([corpus.read(number) for number in (0, 4)])
    corpus.close()
    for row, spoken in enumerate((speech()[0], speech()[4])):
        assert np.array_equal(batch.text[row, : batch.text_lengths[row]], spoken.text_embedding)
        assert np.array_equal(batch.mid[row, : batch.frames[row]], spoken.mid)
        assert np.array_equal(batch.final[row, : batch.frames[row]], spoken.final)
        assert torch.equal(batch.units[row], torch.from_numpy(spoken.units))
        assert not batch.mid[row, batch.frames[row] :].any()


def test_batches_come_in_order(corpus: Corpus) -> None:
    """Whatever was read ahead, and a reader that is given up ends its thread."""
    wanted = [[8, 1], [0], [2, 3, 4], [5], [6, 7]]
    names = [name.partition(" ")[0] for batch in read_ahead(corpus, wanted) for name in batch.names]
    assert names == [speech()[number].audio_file for numbers in wanted for number in numbers]
    some = read_ahead(corpus, wanted)
    next(some)
    some.close()
    assert list(read_ahead(corpus, [])) == []
    corpus.close()


def test_an_error_comes_with_its_batch(corpus: Corpus) -> None:
    """Those before it are given; the error is raised where its batch is due."""
    numbers = iter(read_ahead(corpus, [[0], [1], [2]]))
    next(numbers)
    tensors = corpus._runs["mid"].files[0].with_suffix(".safetensors")
    tensors.write_bytes(b"")
    corpus.close()
    with pytest.raises(InfrastructureError, match="it has changed"):
        list(read_ahead(corpus, [[3]]))
    numbers.close()
