"""Client of taxond, a daemon that owns text classifiers whose categories keep changing.

    from taxond import Client

    with Client("127.0.0.1:50061") as client:
        print(client.predict("bank", "please block my lost card"))
"""

from .address import Tls
from .aio.client import AsyncClient
from .aio.run import AsyncRun
from .changes import Add, Change, Learn, Merge, Move, Part, Remove, Rename, Split
from .errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    JobFailed,
    NotFound,
    PermissionDenied,
    Resource,
    ResourceExhausted,
    TaxondError,
    Unauthenticated,
    Unavailable,
)
from .filters import choose
from .results import Answer, Event, ScoredClass
from .sync.client import Client
from .sync.run import Run

__all__ = [
    "Aborted",
    "Add",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "AsyncRun",
    "Change",
    "Client",
    "DeadlineExceeded",
    "Event",
    "FailedPrecondition",
    "FieldViolation",
    "InvalidArgument",
    "JobFailed",
    "Learn",
    "Merge",
    "Move",
    "NotFound",
    "Part",
    "PermissionDenied",
    "Remove",
    "Rename",
    "Resource",
    "ResourceExhausted",
    "Run",
    "ScoredClass",
    "Split",
    "TaxondError",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "choose",
]
