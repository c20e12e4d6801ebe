"""Models, versions, aliases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from .. import _methods as rpc
from ..names import model_name, version_name
from ..v1 import registry_service_pb2 as pb
from ..v1.admin_service_pb2 import BackupRequest
from .calls import AsyncCalls

PAGE = 1000
PIECE_BYTES = 256 << 10


class AsyncRegistry:
    """RegistryService, and AdminService."""

    _calls: AsyncCalls

    async def create_model(
        self,
        model: str,
        *,
        preset: Literal["default", "seed"] = "default",
        vectors: str | None = None,
        frozen_vectors: bool = False,
        request_id: str = "",
    ) -> pb.Model:
        """Makes a model without examples and versions. `vectors` names a file in the daemon's folder of word vectors."""
        request = pb.CreateModelRequest(
            model_id=model.removeprefix("models/"),
            preset=f"PRESET_{preset.upper()}",
            word_vectors=pb.WordVectors(file=vectors, frozen=frozen_vectors) if vectors else None,
            request_id=request_id,
        )
        return (await self._calls.unary(rpc.CREATE_MODEL, request)).model

    async def model(self, model: str) -> pb.Model:
        """One model."""
        return (await self._calls.unary(rpc.GET_MODEL, pb.GetModelRequest(name=model_name(model)))).model

    async def models(self) -> list[pb.Model]:
        """All models, by name."""

        async def page(token: str, size: int) -> tuple[list[pb.Model], str]:
            request = pb.ListModelsRequest(page_size=size, page_token=token)
            response = await self._calls.unary(rpc.LIST_MODELS, request)
            return list(response.models), response.next_page_token

        return await pages(page, None)

    async def delete_model(self, model: str, *, etag: str = "", request_id: str = "") -> None:
        """Removes a model with its examples, manifests and versions."""
        request = pb.DeleteModelRequest(name=model_name(model), etag=etag, request_id=request_id)
        await self._calls.unary(rpc.DELETE_MODEL, request)

    async def version(self, model: str, version: int | None = None, *, alias: str | None = None) -> pb.Version:
        """One version with its report: a number, what an alias points to, or the one that serves."""
        request = pb.GetVersionRequest(name=version_name(model, version, alias))
        return (await self._calls.unary(rpc.GET_VERSION, request)).version

    async def versions(self, model: str, *, limit: int | None = None) -> list[pb.Version]:
        """The versions of a model, newest first."""

        async def page(token: str, size: int) -> tuple[list[pb.Version], str]:
            request = pb.ListVersionsRequest(model=model_name(model), page_size=size, page_token=token)
            response = await self._calls.unary(rpc.LIST_VERSIONS, request)
            return list(response.versions), response.next_page_token

        return await pages(page, limit)

    async def delete_version(
        self, model: str, version: int, *, forget_undo: bool = False, request_id: str = ""
    ) -> None:
        """Removes a version that no alias points to."""
        name = version_name(model, version)
        request = pb.DeleteVersionRequest(name=name, forget_undo=forget_undo, request_id=request_id)
        await self._calls.unary(rpc.DELETE_VERSION, request)

    async def promote(
        self, model: str, version: int, *, alias: str = "serving", etag: str = "", request_id: str = ""
    ) -> pb.Model:
        """Points an alias to a version; moving `serving` is promotion and rollback."""
        request = pb.SetAliasRequest(
            model=model_name(model), alias=alias, version=version, etag=etag, request_id=request_id
        )
        return (await self._calls.unary(rpc.SET_ALIAS, request)).model

    async def export_version(
        self, model: str, path: str | Path, version: int | None = None, *, alias: str | None = None
    ) -> int:
        """Writes a version to a safetensors file and returns its size in bytes. Until it is whole it is `PATH.partial`."""
        request = pb.ExportVersionRequest(name=version_name(model, version, alias))
        return await _save(self._calls.stream(rpc.EXPORT_VERSION, request, endless=True), Path(path))

    async def import_version(self, model: str, path: str | Path, *, request_id: str = "") -> pb.Version:
        """Takes a version from a file into a model; no alias points to it until `promote` lets one."""

        def pieces() -> Iterator[pb.ImportVersionRequest]:
            yield pb.ImportVersionRequest(model=model_name(model), request_id=request_id)
            with Path(path).open("rb") as file:
                while data := file.read(PIECE_BYTES):
                    yield pb.ImportVersionRequest(data=data)

        return (await self._calls.upload(rpc.IMPORT_VERSION, pieces())).version

    async def backup(self, path: str | Path) -> int:
        """Writes everything that the daemon keeps to a file, of which `taxond restore` makes a data folder; returns its size
        in bytes. Until it is whole it is `PATH.partial`."""
        return await _save(self._calls.stream(rpc.BACKUP, BackupRequest(), endless=True), Path(path))


async def _save(responses: AsyncIterator[Any], target: Path) -> int:
    partial = target.with_name(target.name + ".partial")
    with partial.open("wb") as file:
        async for response in responses:
            file.write(response.data)
        size = file.tell()
    partial.replace(target)
    return size


async def pages(page: Callable[[str, int], Any], limit: int | None) -> list[Any]:
    """All entries of a list, or the first `limit`; `page` returns those of a page and the token of the next."""
    found: list[Any] = []
    token = ""
    while limit is None or len(found) < limit:
        more, token = await page(token, PAGE if limit is None else min(PAGE, limit - len(found)))
        found += more
        if not token:
            break
    return found
