"""Cuts what is sent into messages that the daemon takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .frames import pairs
from .v1.dataset_service_pb2 import LabelledText

MAX_TEXTS = 256
"""Texts in a message of Predict."""
MAX_SCORES = 25_000
"""Scored classes in an answer: with names of 128 bytes that stays below the 4 MiB of a message."""
MAX_BYTES = 2 << 20
"""Bytes of texts in a message: half of what the daemon takes."""
MAX_EXAMPLES = 1000
"""Examples in a message."""


def text_batches(texts: Sequence[str], top_k: int) -> Iterator[Sequence[str]]:
    """Runs of texts whose request and answer each fit a message."""
    most = max(1, min(MAX_TEXTS, MAX_SCORES // max(top_k, 1)))
    start = size = 0
    for n, text in enumerate(texts):
        length = len(text.encode()) + 8
        if n > start and (n - start == most or size + length > MAX_BYTES):
            yield texts[start:n]
            start, size = n, 0
        size += length
    if start < len(texts):
        yield texts[start:]


def example_batches(examples: Iterable[Any], text: str, label: str) -> Iterator[list[LabelledText]]:
    """Runs of examples that fit a message, read as they are sent."""
    batch: list[LabelledText] = []
    size = 0
    for one in pairs(examples, text, label):
        message = LabelledText(text=one[0], label=one[1])
        length = message.ByteSize() + 8
        if batch and (len(batch) == MAX_EXAMPLES or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch
