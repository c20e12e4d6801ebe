"""Changes of the classes: what can be asked for, and what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from typing_extensions import TypedDict

from .v1 import taxonomy_service_pb2 as pb
from .v1.manifest_pb2 import Manifest
from .v1.registry_service_pb2 import Version

Learn: TypeAlias = Literal["auto", "none", "head-only", "fine-tune", "seed", "scratch"]
"""How a change, or new examples, are learnt. `none`: not at all, the instant version stands."""


class EditOptions(TypedDict, total=False):
    """Options of every change."""

    expected_revision: int
    """The revision that the classes must have now; else Aborted."""
    reason: str
    """Why, kept in the history: at most 1024 bytes."""
    request_id: str
    """Makes a repeat within 24 hours return the first answer. Without it each call gets one of its own, which covers
    what gRPC repeats by itself; give your own where your program may repeat the call after a restart."""


class ChangeOptions(EditOptions, total=False):
    """Options of a change that can be learnt."""

    learn: Learn
    """How it is learnt; `auto` if absent."""
    force: bool
    """Promote what is learnt also where the gate would refuse it."""


@dataclass(frozen=True)
class Part:
    """One of the classes that a class is split into, and which of its examples go there."""

    name: str
    ids: Sequence[int] = ()
    """Ids of examples."""
    texts: Sequence[str] = ()
    """Texts of examples."""
    labels: Sequence[str] = ()
    """Labels under which examples were stored."""
    pattern: str = ""
    """A regular expression that texts match somewhere."""
    remaining: bool = False
    """Takes what no other part claims."""

    def message(self) -> pb.ClassPart:
        return pb.ClassPart(
            name=self.name,
            example_ids=self.ids,
            texts=self.texts,
            labels=self.labels,
            pattern=self.pattern,
            remaining=self.remaining,
        )


@dataclass(frozen=True)
class Merge:
    """Makes one class of several."""

    classes: Sequence[str]
    into: str

    def message(self) -> pb.ClassChange:
        return pb.ClassChange(merge=pb.MergeChange(classes=self.classes, into=self.into))


@dataclass(frozen=True)
class Split:
    """Makes several classes of one, and divides its examples."""

    class_name: str
    parts: Sequence[Part]

    def message(self) -> pb.ClassChange:
        parts = [part.message() for part in self.parts]
        return pb.ClassChange(split=pb.SplitChange(class_name=self.class_name, parts=parts))


@dataclass(frozen=True)
class Add:
    """Adds classes."""

    names: Sequence[str]

    def message(self) -> pb.ClassChange:
        return pb.ClassChange(add=pb.AddChange(names=self.names))


@dataclass(frozen=True)
class Remove:
    """Takes classes out; their examples are kept."""

    classes: Sequence[str]

    def message(self) -> pb.ClassChange:
        return pb.ClassChange(remove=pb.RemoveChange(classes=self.classes))


@dataclass(frozen=True)
class Rename:
    """Gives a class another name; its examples follow."""

    class_name: str
    new_name: str

    def message(self) -> pb.ClassChange:
        return pb.ClassChange(rename=pb.RenameChange(class_name=self.class_name, new_name=self.new_name))


@dataclass(frozen=True)
class Move:
    """Puts a class, or a group, into a group, or at the top if that is empty."""

    class_name: str
    under: str = ""
    create: bool = False
    """Make the group if it is not there."""

    def message(self) -> pb.ClassChange:
        move = pb.MoveChange(class_name=self.class_name, parent=self.under, create_parent=self.create)
        return pb.ClassChange(move=move)


AnyChange: TypeAlias = Merge | Split | Add | Remove | Rename | Move

RunT = TypeVar("RunT")


@dataclass(frozen=True)
class Change(Generic[RunT]):
    """A change that stands: its version answers already."""

    manifest: Manifest
    """The classes since."""
    version: Version
    """The version that answers in them."""
    run: RunT | None
    """The job that learns, to be watched or waited for; None if nothing is to be learnt."""
    seconds: float | None = None
    """Seconds from the call to the answer; None for rename, move and undo."""
    splits: Sequence[pb.DividedClass] = field(default=())
    """How splits divided the examples, in the order of the splits."""

    @property
    def revision(self) -> int:
        """Number of the new revision."""
        return self.manifest.revision


def learn_value(learn: Learn | None) -> str | None:
    """The API's name."""
    return None if learn is None else "LEARN_" + learn.upper().replace("-", "_")


def fields(options: ChangeOptions | EditOptions) -> dict[str, Any]:
    """The fields of a request that options stand for."""
    given: dict[str, Any] = dict(options)
    if "learn" in given:
        given["learn"] = learn_value(given["learn"])
    return given
