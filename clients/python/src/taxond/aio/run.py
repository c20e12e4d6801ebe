"""A job that learns, followed from here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .. import _methods as rpc
from ..errors import JobFailed, Unavailable
from ..names import job_name
from ..progress import Bar
from ..results import Event, event
from ..v1.job_pb2 import JOB_STATE_SUCCEEDED, Job
from ..v1.training_service_pb2 import WatchJobRequest
from .calls import AsyncCalls

PATIENCE_SECONDS = 60.0
"""How long a daemon that went away is tried again before the watching gives up."""


class AsyncRun:
    """A job. It goes on in the daemon whether it is followed or not."""

    def __init__(self, calls: AsyncCalls, job: str) -> None:
        self._calls = calls
        self.name = job_name(job)
        """`jobs/{id}`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def events(self, *, progress: bool = False) -> AsyncIterator[Event]:
        """What happens: first what the job has published so far, then what comes, to the end of the job.

        Where the connection breaks, the job is watched again and what was told is not told twice. Where the daemon was
        killed meanwhile, its work is done again by another job, whose events follow. `progress` draws a bar, for which tqdm
        must be installed.
        """
        job, told, waited = self.name, set[tuple[str, str, str]](), 0.0
        with Bar(self.name, progress) as bar:
            while job:
                successor: str | None = None
                try:
                    request = WatchJobRequest(name=job)
                    async for response in self._calls.stream(rpc.WATCH_JOB, request, endless=True):
                        one = event(response.event)
                        waited = 0.0
                        # Numbers begin anew where the daemon does, so what was told is known by what it says.
                        key = (job, one.kind, one.published.version.name if one.published else "")
                        if one.finished:
                            successor = one.finished.job.continued_by
                        if one.progress or key not in told:
                            told.add(key)
                            bar.show(one)
                            yield one
                except Unavailable:
                    if not told or waited >= PATIENCE_SECONDS:
                        raise
                if successor is not None:
                    job = successor
                    continue
                await asyncio.sleep(1.0)
                waited += 1.0

    async def wait(self, *, progress: bool = False, check: bool = True) -> Job:
        """Waits for the end: that of the job, or of the one that does its work again.

        Raises:
            JobFailed: if the job did not succeed, unless `check` is false. An orderly stop of the daemon ends it as
                interrupted; after the restart its `continued_by` names the job that does its work again.
        """
        last: Job | None = None
        async for one in self.events(progress=progress):
            if one.finished is not None:
                last = one.finished.job
        if last is None:
            raise RuntimeError(f"the events of {self.name} ended without its end")
        if check and last.state != JOB_STATE_SUCCEEDED:
            raise JobFailed(last)
        return last
