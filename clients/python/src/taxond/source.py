"""What a stream of requests is read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Source:
    """Keeps what an iterator raises: grpc ends the call then, and logs the exception instead of raising it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as failure:
            self.failure = failure
            raise
