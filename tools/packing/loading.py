"""Items of a source, read by several threads slightly ahead of their consumer."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from audio_tokenizers.errors import InfrastructureError
from tools.packing.members import Loaded
from tools.packing.pairs import Item, LeftOut

__all__ = ["Stream", "load_ahead"]

AHEAD_PER_WORKER = 2


class Stream:
    """Loaded items in order, with one item of look-ahead."""

    def __init__(self, loaded: Iterator[Loaded | LeftOut], first: int) -> None:
        self._loaded = loaded
        self._held = next(loaded, None)
        self.number = first
        """Number of the current item."""

    def peek(self) -> Loaded | LeftOut | None:
        """The current item, None after the last."""
        return self._held

    def advance(self) -> None:
        """Go on to the next item."""
        self._held = next(self._loaded, None)
        self.number += 1

    def close(self) -> None:
        """Close the audio of the current item, which was not consumed."""
        _close(self._held)


def _load(item: Item) -> Loaded | LeftOut:
    """Read one item, and its audio's header."""
    import soundfile

    try:
        pair = item()
    except OSError as error:
        raise InfrastructureError(f"{error.filename or 'the source'}: cannot be read: {error.strerror or error}") from error
    if isinstance(pair, LeftOut):
        return pair
    file = io.BytesIO(pair.audio) if isinstance(pair.audio, bytes) else pair.audio
    try:
        info = soundfile.info(file)
        loaded = Loaded(pair, info.samplerate, info.duration)
    except (soundfile.SoundFileError, RuntimeError, TypeError):  # the tokenizer decides whether it can be decoded
        loaded = Loaded(pair, None, 0.0)
    file.seek(0)
    return loaded


def load_ahead(items: Iterable[Item], workers: int) -> Generator[Loaded | LeftOut]:
    """Items in order, read by `workers` threads a few ahead of the consumer.

    Closed early, it also closes `items`, if that is a generator, and the audio of items that were read ahead.
    """
    ahead: deque[Future[Loaded | LeftOut]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            ahead.append(pool.submit(_load, item))
            if len(ahead) > workers * AHEAD_PER_WORKER:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for future in ahead:
            if not future.cancelled() and future.exception() is None:
                _close(future.result())
        if isinstance(items, Generator):
            items.close()


def _close(loaded: Loaded | LeftOut | None) -> None:
    if isinstance(loaded, Loaded) and not isinstance(loaded.pair.audio, bytes):
        loaded.pair.audio.close()
