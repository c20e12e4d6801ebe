"""Request ids, which make a call safe to repeat."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any


def identified(request: Any) -> Any:
    """The request with a request id of its own, if it takes one and has none: so gRPC may repeat the call."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
        request.request_id = uuid.uuid4().hex
    return request


def first_identified(requests: Iterable[Any]) -> Iterator[Any]:
    """The messages of a stream, the first with a request id."""
    iterator = iter(requests)
    for first in iterator:
        yield identified(first)
        break
    yield from iterator
