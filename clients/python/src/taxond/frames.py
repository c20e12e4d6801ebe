"""Texts and examples out of what callers have: sequences, or pandas, which is asked about only where it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Texts: TypeAlias = "Sequence[str] | pd.Series[Any] | pd.DataFrame"
Examples: TypeAlias = "Iterable[tuple[str, str]] | pd.DataFrame"


def texts_of(data: Any, column: str) -> list[str]:
    """The texts of a sequence, a Series, or the column of a DataFrame.

    Raises:
        TypeError: for something that is no text, with its position.
        KeyError: if the DataFrame has no such column.
    """
    if isinstance(data, str):
        raise TypeError("give a sequence of texts, not one string")
    return list(checked(data[column] if is_frame(data) else data))


def checked(texts: Iterable[Any]) -> Iterator[str]:
    """The texts one by one.

    Raises:
        TypeError: for something that is no text, with its position.
    """
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {position} is no string, got {text!r}")
        yield text


def pairs(examples: Any, text: str, label: str) -> Iterator[tuple[str, str]]:
    """Text and label of each example.

    Raises:
        TypeError: for a row that is no pair of strings, with its position.
        KeyError: if the DataFrame has no such column.
    """
    rows = zip(examples[text], examples[label]) if is_frame(examples) else examples
    for position, row in enumerate(rows):
        pair = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 2
        if not (pair and all(isinstance(value, str) for value in row)):
            raise TypeError(f"example {position} is no pair of text and label, got {row!r}")
        yield row[0], row[1]


def like(data: Any, labels: list[str | None]) -> Any:
    """The labels as a Series with the index of the data, if that is pandas, else as they are."""
    if not (is_frame(data) or is_series(data)):
        return labels
    pandas = sys.modules["pandas"]
    return pandas.Series(labels, index=data.index, name="label", dtype=object)


def table_like(data: Any, rows: list[dict[str, float]]) -> Any:
    """The probabilities as a DataFrame with a column a class, if the data is pandas, else as they are."""
    if not (is_frame(data) or is_series(data)):
        return rows
    pandas = sys.modules["pandas"]
    return pandas.DataFrame(rows, index=data.index).fillna(0.0)


def is_frame(data: Any) -> bool:
    """Whether the data is a DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def is_series(data: Any) -> bool:
    """Whether the data is a Series."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.Series)
