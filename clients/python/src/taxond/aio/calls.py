"""Calls on a channel of grpc.aio: metadata, request ids, deadlines, and errors with their details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
import grpc.aio

from .._methods import Duplex, Q, R, Streamed, Unary, Upload
from ..address import Connection
from ..errors import from_call
from ..request_ids import identified
from ..source import Source
from ..sync.calls import Calls


class AsyncCalls:
    """One channel."""

    def __init__(self, connection: Connection, timeout: float | None) -> None:
        self._connection = connection
        self._timeout = timeout
        self._uploads: Calls | None = None
        target, options = connection.target, list(connection.options)
        if connection.tls is None:
            self._channel = grpc.aio.insecure_channel(target, options)
        else:
            self._channel = grpc.aio.secure_channel(target, connection.tls.credentials(), options)

    async def close(self) -> None:
        if self._uploads is not None:
            self._uploads.close()
        await self._channel.close()

    async def unary(self, method: Unary[Q, R], request: Q) -> R:
        """Sends one message and returns the other."""
        stub = self._channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        try:
            return await stub(identified(request), timeout=self._timeout, metadata=self._connection.metadata())
        except grpc.RpcError as error:
            raise from_call(error) from None

    async def stream(self, method: Streamed[Q, R], request: Q, *, endless: bool = False) -> AsyncIterator[R]:
        """Sends one message and yields what comes; ends the call when the caller stops reading."""
        stub = self._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
        timeout = None if endless else self._timeout
        call = stub(identified(request), timeout=timeout, metadata=self._connection.metadata())
        try:
            async for response in call:
                yield response
        except grpc.RpcError as error:
            raise from_call(error) from None
        finally:
            call.cancel()

    async def upload(self, method: Upload[Q, R], requests: Iterable[Q]) -> R:
        """Sends messages as they come and returns the answer. What the iterator raises ends the call and is raised.

        The iterator is read, and may block, in a thread: this is a call on a channel of its own that is not of grpc.aio,
        which loses the status of a call that the daemon ends while it is being written to.
        """
        if self._uploads is None:
            self._uploads = Calls(self._connection, self._timeout)
        call = self._uploads.begin_upload(method, requests)
        try:
            return await asyncio.to_thread(call.result)
        finally:
            call.cancel()

    async def duplex(self, method: Duplex[Q, R], requests: Iterable[Q]) -> AsyncIterator[R]:
        """Sends messages while it yields the answers. What the iterator raises ends the call and is raised."""
        stub = self._channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        source = Source(iter(requests))
        call = stub(source, metadata=self._connection.metadata())
        try:
            async for response in call:
                yield response
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if source.failure is not None:
                raise source.failure from None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise from_call(error) from None
        finally:
            call.cancel()
