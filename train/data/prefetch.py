"""Tokenising while the model works: a stage's rows are encoded in order, a little ahead of the step that needs them."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from curricle.train.data.encoding import Encoded
from curricle.train.data.table import Rows


class Prefetcher:
    """Encodes the rows of one stage at a time in a thread. The next may depend on the student: it is not touched."""

    def __init__(self, encode: Callable[[Rows], list[Encoded]], size: int) -> None:
        self._encode, self._size = encode, size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._rows: Rows | None = None
        self._futures: deque[Future[list[Encoded]]] = deque()
        self._ready: deque[Encoded] = deque()

    def begin(self, rows: Rows) -> None:
        """Go on with these rows; what was encoded and not taken is dropped."""
        self.drop()
        self._rows = rows
        self._submit()
        self._submit()

    def take(self, count: int) -> list[Encoded]:
        """The next rows of the stage."""
        while len(self._ready) < count:
            self._ready += self._futures.popleft().result()
            self._submit()
        return [self._ready.popleft() for _ in range(count)]

    def drop(self) -> None:
        """Wait for what is being encoded, and forget it."""
        while self._futures:
            self._futures.popleft().result()
        self._ready.clear()
        self._rows = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        if self._rows is not None and len(self._rows):
            self._futures.append(self._thread.submit(self._encode, self._rows[: self._size]))
            self._rows = self._rows[self._size :]
