"""The client: a channel and everything that can be called on it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from ..address import Option, ServiceConfig, Tls, Token, connection
from .calls import AsyncCalls
from .dataset import AsyncDataset
from .predict import AsyncPredict
from .registry import AsyncRegistry
from .taxonomy import AsyncTaxonomy
from .training import AsyncTraining


class AsyncClient(AsyncPredict, AsyncTaxonomy, AsyncTraining, AsyncDataset, AsyncRegistry):
    """A connection to a daemon, to be used in a `with` statement or closed.

    Every method raises `TaxondError`, or one of its subclasses, where the daemon refuses or cannot be reached.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | bool | None = None,
        token: Token | None = None,
        user: str | None = None,
        timeout: float | None = 120.0,
        service_config: ServiceConfig | None = None,
        options: Sequence[Option] = (),
    ) -> None:
        """Reads the address; connects with the first call.

        Args:
            address: `host:port`, `http://host:port`, `https://host:port` or `unix:///path`; if absent that of the
                environment variable `TAXOND_ADDR`, else 127.0.0.1:50061.
            tls: How to speak TLS, or True for TLS with the certificates of the system.
            token: A bearer token, or a function that returns one. Only with TLS, or on this machine.
            user: Who calls, kept as the author of changes: 1 to 128 bytes of UTF-8, printable.
            timeout: Seconds that a call may take; streams of examples, texts, files and events have no limit.
            service_config: Which calls gRPC repeats; the one that comes along if absent, `{}` for none.
            options: Options of the gRPC channel.

        Raises:
            ValueError: for an address that is none, or a token that would cross a network in the clear.
        """
        self._calls = AsyncCalls(connection(address, tls, token, user, service_config, options), timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and what is under way on it. Jobs go on."""
        await self._calls.close()
