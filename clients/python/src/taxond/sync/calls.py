"""Calls on a channel of grpc: metadata, request ids, deadlines, and errors with their details."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic

import grpc

from .._methods import Duplex, Q, R, Streamed, Unary, Upload
from ..address import Connection
from ..errors import from_call
from ..request_ids import first_identified, identified
from ..source import Source


class Calls:
    """One channel."""

    def __init__(self, connection: Connection, timeout: float | None) -> None:
        self._connection = connection
        self._timeout = timeout
        target, options = connection.target, list(connection.options)
        if connection.tls is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, connection.tls.credentials(), options)

    def close(self) -> None:
        self._channel.close()

    def unary(self, method: Unary[Q, R], request: Q) -> R:
        """Sends one message and returns the other."""
        stub = self._channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        try:
            return stub(identified(request), timeout=self._timeout, metadata=self._connection.metadata())
        except grpc.RpcError as error:
            raise from_call(error) from None

    def stream(self, method: Streamed[Q, R], request: Q, *, endless: bool = False) -> Iterator[R]:
        """Sends one message and yields what comes; ends the call when the caller stops reading."""
        stub = self._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        timeout = None if endless else self._timeout
        call = stub(identified(request), timeout=timeout, metadata=self._connection.metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_call(error) from None
        finally:
            call.cancel()

    def upload(self, method: Upload[Q, R], requests: Iterable[Q]) -> R:
        """Sends messages as they come and returns the answer. What the iterator raises ends the call and is raised."""
        return self.begin_upload(method, requests).result()

    def begin_upload(self, method: Upload[Q, R], requests: Iterable[Q]) -> Uploading[R]:
        """Begins what `upload` does; grpc reads the iterator in a thread."""
        stub = self._channel.stream_unary(method.path, method.request.SerializeToString, method.response.FromString)
        source = Source(first_identified(requests))
        return Uploading(stub.future(source, metadata=self._connection.metadata()), source)

    def duplex(self, method: Duplex[Q, R], requests: Iterable[Q]) -> Iterator[R]:
        """Sends messages while it yields the answers. What the iterator raises ends the call and is raised."""
        stub = self._channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        source = Source(iter(requests))
        call = stub(source, metadata=self._connection.metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            if source.failure is not None:
                raise source.failure from None
            raise from_call(error) from None
        finally:
            call.cancel()


class Uploading(Generic[R]):
    """An upload under way."""

    def __init__(self, call: Any, source: Source) -> None:
        self._call = call
        self._source = source

    def result(self) -> R:
        """Waits for the answer."""
        try:
            response: R = self._call.result()
            return response
        except grpc.RpcError as error:
            if self._source.failure is not None:
                raise self._source.failure from None
            raise from_call(error) from None

    def cancel(self) -> None:
        """Ends the call, if it has not ended."""
        self._call.cancel()
