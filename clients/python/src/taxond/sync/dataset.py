"""The labelled examples of a model."""

from __future__ import annotations

from collections.abc import Iterator

from .. import _methods as rpc
from ..batches import example_batches
from ..frames import Examples
from ..names import model_name
from ..v1 import dataset_service_pb2 as pb
from .calls import Calls

PAGE = 1000


class Dataset:
    """DatasetService."""

    _calls: Calls

    def add_examples(
        self,
        model: str,
        examples: Examples,
        *,
        text_column: str = "text",
        label_column: str = "label",
        request_id: str = "",
    ) -> pb.AddExamplesResponse:
        """Stores labelled texts: pairs of text and label, from any iterable, or the columns of a DataFrame.

        They are sent as they are read, and stored all together when the last one has come; after an error, also one that
        the iterable raises, none is.
        """

        def requests() -> Iterator[pb.AddExamplesRequest]:
            first = pb.AddExamplesRequest(model=model_name(model), request_id=request_id)
            batches = example_batches(examples, text_column, label_column)
            first.examples.extend(next(batches, []))
            yield first
            for batch in batches:
                yield pb.AddExamplesRequest(examples=batch)

        return self._calls.upload(rpc.ADD_EXAMPLES, requests())

    def examples(self, model: str, filter: pb.ExampleFilter | None = None) -> Iterator[pb.Example]:
        """Stored examples, in the order they came, read page by page."""
        token = ""
        while True:
            request = pb.ListExamplesRequest(model=model_name(model), filter=filter, page_size=PAGE, page_token=token)
            response = self._calls.unary(rpc.LIST_EXAMPLES, request)
            for example in response.examples:
                yield example
            token = response.next_page_token
            if not token:
                return

    def relabel_examples(
        self,
        model: str,
        label: str,
        filter: pb.ExampleFilter,
        *,
        dry_run: bool = False,
        request_id: str = "",
    ) -> pb.RelabelExamplesResponse:
        """Gives the examples that a filter matches another label, all of them or none."""
        request = pb.RelabelExamplesRequest(
            model=model_name(model), filter=filter, label=label, validate_only=dry_run, request_id=request_id
        )
        return self._calls.unary(rpc.RELABEL_EXAMPLES, request)

    def delete_examples(
        self, model: str, filter: pb.ExampleFilter, *, dry_run: bool = False, request_id: str = ""
    ) -> pb.DeleteExamplesResponse:
        """Removes the examples that a filter matches, all of them or none."""
        request = pb.DeleteExamplesRequest(
            model=model_name(model), filter=filter, validate_only=dry_run, request_id=request_id
        )
        return self._calls.unary(rpc.DELETE_EXAMPLES, request)

    def stats(self, model: str) -> pb.GetStatsResponse:
        """Counts by label and by side of the split, and texts that are stored under several classes."""
        stats = self._calls.unary(rpc.GET_STATS, pb.GetStatsRequest(model=model_name(model)))
        while stats.next_page_token:
            request = pb.GetStatsRequest(model=model_name(model), page_token=stats.next_page_token)
            page = self._calls.unary(rpc.GET_STATS, request)
            stats.labels.extend(page.labels)
            stats.next_page_token = page.next_page_token
        return stats

    def suggest_relabels(
        self, model: str, *, min_confidence: float | None = None, limit: int = 10
    ) -> pb.SuggestRelabelsResponse:
        """Examples whose label the serving version contradicts and is sure about."""
        request = pb.SuggestRelabelsRequest(model=model_name(model), min_confidence=min_confidence, limit=limit)
        return self._calls.unary(rpc.SUGGEST_RELABELS, request)
