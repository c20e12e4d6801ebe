"""Changes of the classes, and their history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from typing_extensions import Unpack

from .. import _methods as rpc
from ..changes import AnyChange, Change, ChangeOptions, EditOptions, Part, fields
from ..names import model_name
from ..v1 import taxonomy_service_pb2 as pb
from ..v1.manifest_pb2 import Manifest
from .calls import AsyncCalls
from .registry import pages
from .run import AsyncRun


class AsyncTaxonomy:
    """TaxonomyService. Each change answers from the moment the call returns; `change.run` is the job that learns it."""

    _calls: AsyncCalls

    async def merge(
        self, model: str, classes: Sequence[str], into: str, **options: Unpack[ChangeOptions]
    ) -> Change[AsyncRun]:
        """Makes one class of several: at once, exactly, and to be undone exactly."""
        request = pb.MergeClassesRequest(
            model=model_name(model), classes=_names(classes), into=into, detach=True, **fields(options)
        )
        return await self._applied(self._calls.stream(rpc.MERGE_CLASSES, request))

    async def split(
        self, model: str, class_name: str, parts: Sequence[Part], **options: Unpack[ChangeOptions]
    ) -> Change[AsyncRun]:
        """Makes several classes of one, and divides its examples among them."""
        request = pb.SplitClassRequest(
            model=model_name(model),
            class_name=class_name,
            parts=[part.message() for part in parts],
            detach=True,
            **fields(options),
        )
        return await self._applied(self._calls.stream(rpc.SPLIT_CLASS, request))

    async def add(self, model: str, names: Sequence[str], **options: Unpack[ChangeOptions]) -> Change[AsyncRun]:
        """Adds classes. Those that have examples are told apart at once; the others are silent."""
        request = pb.AddClassesRequest(model=model_name(model), names=_names(names), detach=True, **fields(options))
        return await self._applied(self._calls.stream(rpc.ADD_CLASSES, request))

    async def remove(self, model: str, classes: Sequence[str], **options: Unpack[ChangeOptions]) -> Change[AsyncRun]:
        """Takes classes out. Their examples are kept, and undo brings them back exactly."""
        request = pb.RemoveClassesRequest(
            model=model_name(model), classes=_names(classes), detach=True, **fields(options)
        )
        return await self._applied(self._calls.stream(rpc.REMOVE_CLASSES, request))

    async def rename(
        self, model: str, class_name: str, new_name: str, **options: Unpack[EditOptions]
    ) -> Change[AsyncRun]:
        """Gives a class another name; its examples follow."""
        request = pb.RenameClassRequest(
            model=model_name(model), class_name=class_name, new_name=new_name, **fields(options)
        )
        response = await self._calls.unary(rpc.RENAME_CLASS, request)
        return Change(response.manifest, response.version, self._run(response.job))

    async def move(
        self, model: str, class_name: str, under: str = "", *, create: bool = False, **options: Unpack[EditOptions]
    ) -> Change[AsyncRun]:
        """Puts a class, or a group, into the group `under`, or at the top; `create` makes the group if need be."""
        request = pb.MoveClassRequest(
            model=model_name(model), class_name=class_name, parent=under, create_parent=create, **fields(options)
        )
        response = await self._calls.unary(rpc.MOVE_CLASS, request)
        return Change(response.manifest, response.version, self._run(response.job))

    async def apply(
        self, model: str, changes: Sequence[AnyChange], **options: Unpack[ChangeOptions]
    ) -> Change[AsyncRun]:
        """Applies several changes as one: all of them or none, one revision, one undo."""
        messages = [change.message() for change in changes]
        request = pb.ApplyChangesRequest(model=model_name(model), changes=messages, detach=True, **fields(options))
        return await self._applied(self._calls.stream(rpc.APPLY_CHANGES, request))

    async def preview(self, model: str, *changes: AnyChange) -> pb.ChangePreview:
        """What changes would do: classes, accuracy before and after, examples of the parts. Changes nothing."""
        messages = [change.message() for change in changes]
        request = pb.ApplyChangesRequest(model=model_name(model), changes=messages, validate_only=True)
        async for response in self._calls.stream(rpc.APPLY_CHANGES, request):
            return response.preview
        raise RuntimeError("the daemon sent no preview")

    async def undo(self, model: str, **options: Unpack[EditOptions]) -> Change[AsyncRun]:
        """Undoes the latest change: classes and answers are what they were before it."""
        request = pb.UndoChangeRequest(model=model_name(model), **fields(options))
        response = await self._calls.unary(rpc.UNDO_CHANGE, request)
        return Change(response.manifest, response.version, None)

    async def manifest(self, model: str, revision: int | None = None) -> Manifest:
        """The classes of a revision, or those that serve."""
        name = model_name(model) if revision is None else f"{model_name(model)}/manifests/{revision}"
        response = await self._calls.unary(rpc.GET_MANIFEST, pb.GetManifestRequest(name=name))
        manifest = response.manifest
        while response.next_page_token:
            request = pb.GetManifestRequest(name=name, page_token=response.next_page_token)
            response = await self._calls.unary(rpc.GET_MANIFEST, request)
            manifest.classes.extend(response.manifest.classes)
        return manifest

    async def manifests(self, model: str, *, limit: int | None = None) -> list[Manifest]:
        """The manifests of a model, newest first."""

        async def page(token: str, size: int) -> tuple[list[Manifest], str]:
            request = pb.ListManifestsRequest(model=model_name(model), page_size=size, page_token=token)
            response = await self._calls.unary(rpc.LIST_MANIFESTS, request)
            return list(response.manifests), response.next_page_token

        return await pages(page, limit)

    async def history(self, model: str, *, limit: int | None = None) -> list[pb.HistoryEntry]:
        """What was changed, newest first: when, by whom, why, and what it did to the accuracy."""

        async def page(token: str, size: int) -> tuple[list[pb.HistoryEntry], str]:
            request = pb.GetHistoryRequest(model=model_name(model), page_size=size, page_token=token)
            response = await self._calls.unary(rpc.GET_HISTORY, request)
            return list(response.entries), response.next_page_token

        return await pages(page, limit)

    async def suggest_merges(self, model: str, *, limit: int = 10) -> pb.SuggestMergesResponse:
        """Pairs of classes whose merging would gain most validation accuracy."""
        request = pb.SuggestMergesRequest(model=model_name(model), limit=limit)
        return await self._calls.unary(rpc.SUGGEST_MERGES, request)

    async def suggest_splits(self, model: str, *, limit: int = 10) -> pb.SuggestSplitsResponse:
        """Classes whose examples form two clusters."""
        request = pb.SuggestSplitsRequest(model=model_name(model), limit=limit)
        return await self._calls.unary(rpc.SUGGEST_SPLITS, request)

    async def _applied(self, responses: AsyncIterator[Any]) -> Change[AsyncRun]:
        change: Change[AsyncRun] | None = None
        async for response in responses:
            if response.WhichOneof("result") == "applied":
                applied = response.applied
                change = Change(
                    applied.manifest,
                    applied.version,
                    self._run(applied.job),
                    applied.seconds,
                    tuple(applied.splits),
                )
        if change is None:
            raise RuntimeError("the daemon did not say that the change stands")
        return change

    def _run(self, job: str) -> AsyncRun | None:
        return AsyncRun(self._calls, job) if job else None


def _names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"give a sequence of names, not one string, got {names!r}")
    return list(names)
