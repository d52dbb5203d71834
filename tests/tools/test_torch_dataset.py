"""tools/torch_dataset.py: every clip exactly once, over whatever ranks and workers there are."""

from __future__ import annotations

import gzip
import pickle
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from support.committed_runs import damaged_records, make_run, record
from support.small_run import BAD_CLIP, mulaw_spec, tokenize, wav, write_tar
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader

from audio_tokenizers.base import Field
from audio_tokenizers.errors import UsageError
from hpc.run import Run
from jobs.damage import Damage
from jobs.spec import freeze_spec
from tools.joined_runs import join_runs
from tools.reader import read_run
from tools.torch_dataset import TokenDataset

CLIPS = 11
NAMES = [f"{tar}/{clip:02}.wav" for tar in "abc" for clip in range(CLIPS) if clip != BAD_CLIP]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three tars, each with a clip that became an error; the clips are of different lengths."""
    folder = tmp_path_factory.mktemp("data")
    run = Run(folder / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    for tar in "abc":
        members = {}
        for clip in range(CLIPS):
            members[f"{tar}/{clip:02}.wav"] = b"" if clip == BAD_CLIP else wav(40 + 30 * clip, seed=clip)
            members[f"{tar}/{clip:02}.json"] = b'{"text":"words %d","language":"en","clip":%d}' % (clip, clip)
        path = write_tar(folder / f"{tar}.tar", members)
        run.add_to_list([str(path)], keep_dirs=False)
        tokenize(path, run.output_dir)
    return run.output_dir


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever started the tests is no rank."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def group() -> Iterator[None]:
    """A process group in which this process is rank 1 of 3."""
    torch.distributed.init_process_group("fake", rank=1, world_size=3, store=FakeStore())
    yield
    torch.distributed.destroy_process_group()


def clips_of(dataset: TokenDataset, workers: int = 0) -> list[dict[str, Any]]:
    """What a DataLoader gives, clip by clip."""
    context = "fork" if workers else None
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=list, multiprocessing_context=context)
    return list(chain.from_iterable(loader))


def names_of(dataset: TokenDataset, workers: int = 0) -> list[str]:
    return [clip["audio_file"] for clip in clips_of(dataset, workers)]


def test_in_this_process_all_in_order(source: Path) -> None:
    """Without workers and ranks the clips are those of read_run, in its order, as tensors with all that belongs to them."""
    clips = list(TokenDataset(source))
    assert [clip["audio_file"] for clip in clips] == NAMES
    for clip, expected in zip(clips, read_run(source), strict=True):
        assert clip["tokens"].dtype == torch.int64
        assert clip["tokens"].tolist() == expected.tokens.tolist()
        assert (clip["num_samples"], clip["sample_rate"]) == (expected.num_samples, 8000)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_clips(source: Path, workers: int) -> None:
    """Every clip comes once to each epoch, whatever the number of workers, with text, language and metadata to collate."""
    dataset = TokenDataset(source)
    clips = clips_of(dataset, workers)
    assert sorted(clip["audio_file"] for clip in clips) == NAMES
    for clip in clips:
        number = int(clip["audio_file"][2:4])
        assert (clip["text"], clip["language"], clip["metadata"]) == (f"words {number}", "en", {"clip": number})
        assert clip["tokens"].shape == (1, 40 + 30 * number)
    assert sorted(names_of(dataset, workers)) == NAMES


def test_a_copy_for_spawned_workers(source: Path) -> None:
    """Pickled and unpickled, as workers get it that are not forked, it gives the same."""
    assert sorted(names_of(pickle.loads(pickle.dumps(TokenDataset(source))), 2)) == NAMES


def test_ranks_by_argument(source: Path) -> None:
    """Ranks times workers: every clip once; more parts than clips leave some with none."""
    shares = [names_of(TokenDataset(source, rank=rank, world_size=2), 2) for rank in range(2)]
    assert all(shares)
    assert sorted(chain.from_iterable(shares)) == NAMES
    shares = [names_of(TokenDataset(source, rank=rank, world_size=50)) for rank in range(50)]
    assert list(chain.from_iterable(shares)) == NAMES
    assert [] in shares


def test_ranks_by_environment(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun sets it; when the reading begins, and not when the data set is made, and in workers too."""
    dataset = TokenDataset(source)
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        shares.append(names_of(dataset))
    assert sorted(chain.from_iterable(shares)) == NAMES
    assert sorted(names_of(dataset, 1)) == sorted(shares[2])
    assert names_of(TokenDataset(source, rank=0, world_size=1)) == NAMES


@pytest.mark.usefixtures("group")
def test_ranks_by_process_group(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group wins over the environment, an argument over both; a pickled copy keeps its place where no group is."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    expected = names_of(TokenDataset(source, rank=1, world_size=3))
    dataset = TokenDataset(source)
    assert names_of(dataset) == expected != NAMES
    assert names_of(TokenDataset(source, rank=0, world_size=1)) == NAMES
    data = pickle.dumps(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: False)
        assert names_of(pickle.loads(data)) == expected
        assert names_of(pickle.loads(pickle.dumps(dataset))) == NAMES


def test_a_merged_file(source: Path, tmp_path: Path) -> None:
    """The same of a .jsonl.gz with a member per tar."""
    merged = tmp_path / "all.jsonl.gz"
    merged.write_bytes(b"".join(gzip.compress((source / f"{tar}.jsonl").read_bytes()) for tar in "abc"))
    assert names_of(TokenDataset(merged)) == NAMES
    shares = [names_of(TokenDataset(str(merged), rank=rank, world_size=2), 2) for rank in range(2)]
    assert sorted(chain.from_iterable(shares)) == NAMES
    assert max(Counter(chain.from_iterable(shares)).values()) == 1


def test_joined_runs(tmp_path: Path) -> None:
    """The clips that all runs have, with the keys of all; each once over ranks and workers. Settings given to join_runs and
    those given here both hold.
    """
    runs = []
    for key, tars in (("units", {"a": 7, "b": 2}), ("words", {"a": 6, "b": None})):
        field = Field(name=key, form="list", codebook_size=10)
        lines = {
            tar: [
                record({key: b"[%d]" % clip}, audio_file=f"{clip}.wav", damage=Damage(0.5, "its end") if clip == 3 else None)
                for clip in range(clips)
            ]
            if clips
            else None
            for tar, clips in tars.items()
        }
        make_run(tmp_path / key, lines, (field,))
        runs.append(tmp_path / key)
    with pytest.raises(UsageError, match="1 of 2 tars not committed"):
        names_of(TokenDataset(join_runs(*runs)))
    joined = join_runs(*runs, partial_ok=True)
    clips = clips_of(TokenDataset(joined))
    assert [(clip["units"].tolist(), clip["words"].tolist()) for clip in clips] == [([n], [n]) for n in range(6)]
    assert (joined.counts.joined, joined.counts.missing[str(runs[1])]) == (6, 3)
    names = [f"{clip}.wav" for clip in range(6)]
    shares = [names_of(TokenDataset(joined, rank=rank, world_size=2), 2) for rank in range(2)]
    assert all(shares)
    assert sorted(chain.from_iterable(shares)) == names
    for dataset in (
        TokenDataset(joined, damaged=False),
        TokenDataset(join_runs(*runs, damaged=False), partial_ok=True),
        pickle.loads(pickle.dumps(TokenDataset(joined, damaged=False))),
    ):
        assert names_of(dataset) == [name for name in names if name != "3.wav"]


def test_a_run_that_is_not_finished(source: Path, tmp_path: Path) -> None:
    """It is refused unless what is there will do."""
    run = Run(tmp_path / "tokens")
    freeze_spec(run.output_dir, mulaw_spec())
    tars = [str(write_tar(tmp_path / f"{name}.tar", {"1.wav": wav(50)})) for name in "xy"]
    run.add_to_list(tars, keep_dirs=False)
    tokenize(Path(tars[0]), run.output_dir)
    with pytest.raises(UsageError, match="1 of 2 tars not committed"):
        names_of(TokenDataset(run.output_dir))
    assert names_of(TokenDataset(run.output_dir, partial_ok=True), 2) == ["1.wav"]


def test_places_that_cannot_be(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a place, one beyond the end, and words in the environment are refused with what was expected."""
    with pytest.raises(UsageError, match="expected both or neither"):
        TokenDataset(source, rank=1)
    with pytest.raises(UsageError, match="rank 2 of 2: expected a number from 0 to 1"):
        TokenDataset(source, rank=2, world_size=2)
    for rank in ("", "one", "-1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(UsageError, match=f"RANK={rank}, WORLD_SIZE= in the environment"):
            next(iter(TokenDataset(source)))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="rank 3 of 3"):
        next(iter(TokenDataset(source)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_without_collate_fn_is_told_of_it(source: Path, workers: int) -> None:
    """Clips of different lengths cannot be stacked: the error says what to give the DataLoader, from its workers too."""
    with pytest.raises(UsageError, match=r"DataLoader\(\.\.\., collate_fn=list\)"):
        list(DataLoader(TokenDataset(source), batch_size=4, num_workers=workers))


def test_a_loader_without_collate_fn_where_torch_can_do_without(source: Path) -> None:
    """One clip at a time is stacked as ever, and with batch_size=None it is the clip itself."""
    (clip, *_) = DataLoader(TokenDataset(source), batch_size=1)
    assert clip["tokens"].shape == (1, 1, 40)
    assert clip["text"] == ["words 0"]
    (alone, *_) = DataLoader(TokenDataset(source), batch_size=None)
    assert alone["tokens"].shape == (1, 40)
    assert torch.equal(alone["tokens"], clip["tokens"][0])


def test_damaged_clips(tmp_path: Path) -> None:
    """They come with what they lack, in words and seconds that torch collates, or not at all if nobody wants them."""
    fields = (Field(name="tokens", form="codes", width=2, codebook_size=1024),)
    make_run(tmp_path / "run", {"a": damaged_records(1)}, fields)
    clips = clips_of(TokenDataset(tmp_path / "run"))
    assert [clip["damage_seconds"] for clip in clips] == [0.0, 0.0, 0.0, 0.72, 0.012]
    assert [clip["damage"] for clip in clips][2:4] == ["", "frames that cannot be decoded"]
    whole = TokenDataset(tmp_path / "run", damaged=False)
    for dataset in (whole, pickle.loads(pickle.dumps(whole))):
        assert names_of(dataset) == ["0.wav", "1.wav", "2.wav"]
