"""Cuts what is sent into messages that the daemon takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def text_batches(texts: Iterable[str], top_k: int) -> Iterator[list[str]]:
    """Runs of texts whose request and answer each fit a message, read as they are sent."""
    most = max(1, min(MAX_TEXTS, MAX_SCORES // max(top_k, 1)))
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode()) + 8
        if batch and (len(batch) == most or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


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
