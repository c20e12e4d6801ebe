"""Asking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from typing_extensions import Unpack

from .. import _methods as rpc
from ..batches import text_batches
from ..frames import Texts, checked, like, table_like, texts_of
from ..names import version_name
from ..results import Answer, AskOptions, ScoreOptions, answers
from ..v1.predict_service_pb2 import PredictRequest, PredictStreamRequest
from .calls import AsyncCalls

if TYPE_CHECKING:
    import pandas as pd

ALL_CLASSES = 1000


class AsyncPredict:
    """PredictService."""

    _calls: AsyncCalls

    @overload
    async def predict(  # type: ignore[overload-overlap]  # A string is a sequence of strings too; the first that fits counts.
        self, model: str, texts: str, **options: Unpack[AskOptions]
    ) -> str: ...

    @overload
    async def predict(self, model: str, texts: Sequence[str], **options: Unpack[AskOptions]) -> list[str]: ...

    @overload
    async def predict(
        self, model: str, texts: pd.Series[Any] | pd.DataFrame, **options: Unpack[AskOptions]
    ) -> pd.Series[Any]: ...

    async def predict(self, model: str, texts: Any, **options: Unpack[AskOptions]) -> Any:
        """The most probable class of each text.

        A string gives a string, a sequence a list; a Series, or the column `text` of a DataFrame, gives a Series with the
        same index. Options: `level`, `revision`, `version`, `alias`, `column`, as in `classify`.
        """
        wrong = {"min_confidence", "min_precision", "top_k"} & options.keys()
        if wrong:
            raise TypeError(f"predict gives every text one label; use classify for {', '.join(sorted(wrong))}")
        single = isinstance(texts, str)
        found = await self.classify(model, [texts] if single else texts, **options)
        labels = [answer.label for answer in found]
        return labels[0] if single else like(texts, labels)

    @overload
    async def predict_probabilities(
        self, model: str, texts: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> list[dict[str, float]]: ...

    @overload
    async def predict_probabilities(
        self, model: str, texts: pd.Series[Any] | pd.DataFrame, **options: Unpack[ScoreOptions]
    ) -> pd.DataFrame: ...

    async def predict_probabilities(self, model: str, texts: Any, **options: Unpack[ScoreOptions]) -> Any:
        """The probability of each class for each text: a list of dicts, or a DataFrame with a column a class.

        Classes are in the order of their ids; at most the 1,000 most probable of a text. Options as in `classify`.
        """
        options.setdefault("top_k", ALL_CLASSES)
        found = await self.classify(model, texts, **options)
        order = {c.name: c.id for answer in found for c in answer.classes}
        rows = []
        for answer in found:
            row = answer.probabilities()
            rows.append({name: row[name] for name in sorted(row, key=lambda name: (order.get(name, 0), name))})
        return table_like(texts, rows)

    async def classify(
        self,
        model: str,
        texts: Texts,
        *,
        top_k: int = 1,
        min_confidence: float | None = None,
        min_precision: float | None = None,
        level: int | None = None,
        revision: int | None = None,
        version: int | None = None,
        alias: str | None = None,
        column: str = "text",
    ) -> list[Answer]:
        """The answers in full, one a text, in their order.

        Args:
            model: Name of the model; its serving version answers unless `version` or `alias` says otherwise.
            texts: A sequence, a Series, or a DataFrame whose column `column` holds them. What fits one message is answered
                by one version; what does not is sent as a stream, and each answer names its version.
            top_k: Classes to return for each text, 1 to 1000.
            min_confidence: Leave out classes below this probability.
            min_precision: Mark answers that are less sure than it takes for this share of the others to be right.
            level: Level of the classes to answer in; 0 is the top, where a group answers for all below it.
            revision: Revision of the classes to answer in, for programs that know older ones.
        """
        listed = texts_of(texts, column)
        if not listed:
            return []
        options: dict[str, Any] = {
            "top_k": top_k,
            "min_confidence": min_confidence,
            "min_precision": min_precision,
            "level": level,
            "manifest_revision": revision,
        }
        name = version_name(model, version, alias)
        batches = list(text_batches(listed, top_k))
        if len(batches) == 1:
            request = PredictRequest(model=name, texts=listed, **options)
            response = await self._calls.unary(rpc.PREDICT, request)
            return answers(response)
        found: list[Answer] = []
        async for message in self._calls.duplex(rpc.PREDICT_STREAM, _messages(name, batches, options)):
            found += answers(message)
        return found

    async def classify_each(
        self,
        model: str,
        texts: Iterable[str],
        *,
        top_k: int = 1,
        min_confidence: float | None = None,
        min_precision: float | None = None,
        level: int | None = None,
        revision: int | None = None,
        version: int | None = None,
        alias: str | None = None,
    ) -> AsyncIterator[Answer]:
        """Yields the answers one by one, while the texts are read as they are sent: for more texts than memory holds.

        Args: as in `classify`. A wrong text ends it after the answers to the messages before that one.
        """
        options: dict[str, Any] = {
            "top_k": top_k,
            "min_confidence": min_confidence,
            "min_precision": min_precision,
            "level": level,
            "manifest_revision": revision,
        }
        name = version_name(model, version, alias)
        requests = _messages(name, text_batches(checked(texts), top_k), options)
        async for message in self._calls.duplex(rpc.PREDICT_STREAM, requests):
            for answer in answers(message):
                yield answer


def _messages(name: str, batches: Iterable[list[str]], options: dict[str, Any]) -> Iterator[PredictStreamRequest]:
    """The messages of a stream; the first says what holds for all."""
    for n, batch in enumerate(batches):
        if n == 0:
            yield PredictStreamRequest(model=name, texts=batch, **options)
        else:
            yield PredictStreamRequest(texts=batch)
