"""Where the daemon is, and how to reach it: addresses, TLS, who calls, and which calls are repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50061"

ServiceConfig: TypeAlias = Mapping[str, Any]
Option: TypeAlias = tuple[str, Any]
Token: TypeAlias = str | Callable[[], str]
"""A bearer token, or what is called for one before each call, for tokens that change."""


@dataclass(frozen=True)
class Tls:
    """How to speak TLS. Each file is PEM, by its path or its bytes."""

    ca: str | Path | bytes | None = None
    """Certificates that the daemon's must lead back to; those of the system if none are given."""
    certificate: str | Path | bytes | None = None
    """Certificate of the client, with its chain, where the daemon asks for one."""
    key: str | Path | bytes | None = None
    """Its private key."""
    server_name: str | None = None
    """The name that the daemon's certificate must bear, if not that of the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.certificate))


@dataclass(frozen=True)
class Connection:
    """What a channel is made of."""

    target: str
    tls: Tls | None
    options: Sequence[Option]
    token: Token | None
    user: str | None

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What goes along with every call."""
        pairs: list[tuple[str, str | bytes]] = []
        if self.token is not None:
            token = self.token if isinstance(self.token, str) else self.token()
            pairs.append(("authorization", f"Bearer {token}"))
        if self.user is not None:
            # Metadata is ASCII; names in other scripts go as bytes.
            plain = self.user.isascii()
            pairs.append(("taxond-user", self.user) if plain else ("taxond-user-bin", self.user.encode()))
        return tuple(pairs)


def connection(
    address: str | None,
    tls: Tls | bool | None,
    token: Token | None,
    user: str | None,
    service_config: ServiceConfig | None,
    options: Sequence[Option],
) -> Connection:
    """Reads an address: `host:port`, `http://host:port`, `https://host:port`, or `unix:///path`.

    Raises:
        ValueError: for an address of another kind, and for a token that would cross a network in the clear.
    """
    address = address or os.environ.get("TAXOND_ADDR") or DEFAULT_ADDRESS
    scheme, separator, rest = address.partition("://")
    if not separator or scheme == "unix":
        target = address
    elif scheme in ("http", "https"):
        target = rest.rstrip("/")
        if tls is None and scheme == "https":
            tls = True
        elif tls and scheme == "http":
            raise ValueError(f"TLS was asked for, and the address is {address!r}; write https://")
    else:
        raise ValueError(f"address must be host:port, http://, https:// or unix://, got {address!r}")
    chosen = Tls() if tls is True else tls or None
    if token is not None and chosen is None and not _stays_on_this_machine(target):
        raise ValueError(f"the token would be sent to {address!r} in the clear; use TLS")
    config = shipped_service_config() if service_config is None else service_config
    defaults: list[Option] = [
        ("grpc.service_config", json.dumps(config)),
        # Notices within a minute and a half that the other side is gone, on streams that are silent for long.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 30_000),
        # An error that names many fields is longer than the 8 KiB of headers that gRPC takes by default.
        ("grpc.max_metadata_size", 1 << 20),
        ("grpc.absolute_max_metadata_size", 1 << 20),
    ]
    if target.startswith("unix:"):
        # Else gRPC sends the path of the socket, percent-encoded, which the daemon's HTTP/2 takes for no host at all.
        defaults.append(("grpc.default_authority", "localhost"))
    if chosen is not None and chosen.server_name is not None:
        defaults.append(("grpc.ssl_target_name_override", chosen.server_name))
    return Connection(target, chosen, [*defaults, *options], token, user)


def shipped_service_config() -> dict[str, Any]:
    """The service config that comes along: which calls gRPC repeats where the daemon cannot be reached."""
    text = resources.files(__package__).joinpath("grpc-service-config.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


def _stays_on_this_machine(target: str) -> bool:
    return target.startswith(("unix:", "127.", "localhost:", "[::1]:"))


def _pem(source: str | Path | bytes | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
