"""Answers, and what happens to a job, as Python has them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from .v1 import job_pb2, predict_service_pb2


class AskOptions(TypedDict, total=False):
    """Which version answers, and in which classes; as in `classify`."""

    level: int | None
    revision: int | None
    version: int | None
    alias: str | None
    column: str


class ScoreOptions(AskOptions, total=False):
    """And how many of the classes."""

    top_k: int
    min_confidence: float | None


@dataclass(frozen=True)
class ScoredClass:
    """A class and its probability."""

    name: str
    id: int
    probability: float
    newer: bool = False
    """Asked in an older revision: the class is none of that revision."""


@dataclass(frozen=True)
class Answer:
    """The answer to one text."""

    classes: Sequence[ScoredClass]
    """By falling probability."""
    rejected: bool
    """With `min_precision`: too unsure to be relied on."""
    truncated: bool
    """The text was longer than the network reads."""
    version: int
    """Number of the version that answered."""
    revision: int
    """Revision of the classes it answered in."""
    unresolved: Sequence[predict_service_pb2.UnresolvedClass] = ()
    """Asked in an older revision: the classes that cannot be answered in any more, or not with all that they were."""

    @property
    def label(self) -> str | None:
        """Name of the best class; None where `min_confidence` left none."""
        return self.classes[0].name if self.classes else None

    @property
    def probability(self) -> float | None:
        """Probability of the best class."""
        return self.classes[0].probability if self.classes else None

    def probabilities(self) -> dict[str, float]:
        """Probability by name. A newer class that bears the name of another has its id added: `name (#7)`."""
        by_name: dict[str, float] = {}
        for c in self.classes:
            by_name[c.name if c.name not in by_name else f"{c.name} (#{c.id})"] = c.probability
        return by_name


def answers(
    response: predict_service_pb2.PredictResponse | predict_service_pb2.PredictStreamResponse,
) -> list[Answer]:
    """The answers of a response, one a text."""
    version = int(response.version.rsplit("/", 1)[-1])
    unresolved = tuple(response.unresolved)
    return [
        Answer(
            classes=tuple(ScoredClass(c.name, c.id, c.probability, c.newer) for c in prediction.classes),
            rejected=prediction.rejected,
            truncated=prediction.truncated,
            version=version,
            revision=response.manifest_revision,
            unresolved=unresolved,
        )
        for prediction in response.predictions
    ]


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job. One of the fields at the end is given; `kind` names it."""

    kind: str
    """`accepted`, `planned`, `progress`, `published` or `finished`."""
    job: str
    sequence: int
    """Counted from 1, anew after a restart of the daemon. Progress is not kept for replay, so numbers may skip."""
    time: datetime.datetime
    accepted: job_pb2.JobAccepted | None = None
    planned: job_pb2.JobPlanned | None = None
    progress: job_pb2.Progress | None = None
    published: job_pb2.VersionPublished | None = None
    """A version now answers, or was stored without being promoted."""
    finished: job_pb2.JobFinished | None = None
    """The last event."""


def event(message: job_pb2.JobEvent) -> Event:
    """The event of a message."""
    kind = message.WhichOneof("event") or ""
    at = message.time.ToDatetime(datetime.timezone.utc)
    body = {kind: getattr(message, kind)} if kind else {}
    return Event(kind, message.job, message.sequence, at, **body)
