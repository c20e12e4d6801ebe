"""What a call that failed says: the gRPC status with the details that the daemon sends."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from .v1.job_pb2 import Job, JobState

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that is wrong."""

    field: str
    """Path of the field, for example `examples[3].label`."""
    description: str
    """What is wrong with it, with the offending value."""


@dataclass(frozen=True)
class Resource:
    """What was asked for and is not there, or is there already."""

    type: str
    """For example `taxond.v1/Model`."""
    name: str


class TaxondError(Exception):
    """A call that failed. The subclasses go by the code of the status."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        resource: Resource | None = None,
        retry_after: datetime.timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        """Stable reason in upper snake case, such as `INVALID_FIELDS`; empty where the daemon did not answer."""
        self.violations = tuple(violations)
        """The fields of the request that are wrong."""
        self.resource = resource
        """What was asked for and is not there, or is there already."""
        self.retry_after = retry_after
        """When to try again, where the daemon knows."""
        self.metadata = dict(metadata or {})
        """What belongs to the reason, such as the nearest name there is, as `suggestion`."""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class InvalidArgument(TaxondError):
    """Fields of the request are wrong: see `violations`."""


class NotFound(TaxondError):
    """What was named does not exist: see `resource`."""


class AlreadyExists(TaxondError):
    """What was to be made exists already: see `resource`."""


class FailedPrecondition(TaxondError):
    """Not possible in the present state."""


class Aborted(TaxondError):
    """Somebody else was first: a job trains the model, or the expected revision is not that of today."""


class ResourceExhausted(TaxondError):
    """A limit is reached; `retry_after` says when to try again, if that may help."""


class Unavailable(TaxondError):
    """The daemon cannot be reached, or is stopping."""


class DeadlineExceeded(TaxondError):
    """The call took longer than its timeout. What it was to do may have been done."""


class Unauthenticated(TaxondError):
    """There is no valid token or certificate."""


class PermissionDenied(TaxondError):
    """The caller may not do this."""


class JobFailed(Exception):
    """A job ended otherwise than by success."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job
        """The job as it stands; `message` says what happened and what to do."""

    def __str__(self) -> str:
        state = JobState.Name(self.job.state).removeprefix("JOB_STATE_").lower()
        return f"{self.job.name} {state}: {self.job.message}"


_BY_CODE: Mapping[grpc.StatusCode, type[TaxondError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def from_call(error: Any) -> TaxondError:
    """The error that a failed call raises, with its details unpacked."""
    code: grpc.StatusCode = error.code()
    reason, metadata = "", dict[str, str]()
    violations: list[FieldViolation] = []
    resource: Resource | None = None
    retry_after: datetime.timedelta | None = None
    for detail in _details(error):
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        named = error_details_pb2.ResourceInfo()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request):
            violations += [FieldViolation(v.field, v.description) for v in request.field_violations]
        elif detail.Unpack(named):
            resource = Resource(named.resource_type, named.resource_name)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    kind = _BY_CODE.get(code, TaxondError)
    return kind(
        code,
        error.details() or "",
        reason=reason,
        violations=violations,
        resource=resource,
        retry_after=retry_after,
        metadata=metadata,
    )


def _details(error: Any) -> list[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return list(status_pb2.Status.FromString(value).details)
    return []
