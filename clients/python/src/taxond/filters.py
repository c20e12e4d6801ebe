"""Choosing stored examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .v1 import dataset_service_pb2 as pb


def choose(
    *,
    ids: Sequence[int] = (),
    label: str = "",
    class_name: str = "",
    contains: str = "",
    split: Literal["train", "validation"] | None = None,
    conflicting: bool = False,
    all: bool = False,
) -> pb.ExampleFilter:
    """Chooses examples: those that match all that is given.

    Args:
        ids: Ids of examples.
        label: The label they were stored under.
        class_name: The class their label means now.
        contains: A part of the text; case and width make no difference.
        split: Side of the split.
        conflicting: Texts that are stored under several classes.
        all: All examples of the model; goes with nothing else.
    """
    side = None if split is None else f"SPLIT_{split.upper()}"
    return pb.ExampleFilter(
        ids=ids,
        label=label,
        class_name=class_name,
        text_contains=contains,
        split=side,
        conflicting=conflicting,
        all=all,
    )
