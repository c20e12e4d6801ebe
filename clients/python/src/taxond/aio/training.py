"""Learning, and measuring what was learnt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from .. import _methods as rpc
from ..batches import example_batches
from ..changes import Learn, learn_value
from ..frames import Examples
from ..names import job_name, model_name, version_name
from ..v1 import training_service_pb2 as pb
from ..v1.job_pb2 import Job
from .calls import AsyncCalls
from .registry import pages
from .run import AsyncRun


class AsyncTraining:
    """TrainingService."""

    _calls: AsyncCalls

    async def train(
        self,
        model: str,
        *,
        epochs: int | None = None,
        seed: int | None = None,
        learning_rate: float | None = None,
        optimiser: Literal["adamw", "sgd"] | None = None,
        word_shuffle: float | None = None,
        learn: Learn | None = None,
        force: bool = False,
        request_id: str = "",
    ) -> AsyncRun:
        """Starts to train a model on its stored examples. Iterate over the run for what happens, or `wait()` for its end.

        What is not given is decided by the recipe. The job goes on whether it is followed or not.
        """
        request = pb.TrainRequest(
            model=model_name(model),
            epochs=epochs,
            seed=seed,
            learning_rate=learning_rate,
            optimiser=None if optimiser is None else f"OPTIMISER_{optimiser.upper()}",
            word_shuffle=word_shuffle,
            learn=learn_value(learn),
            force=force,
            detach=True,
            request_id=request_id,
        )
        job = ""
        async for response in self._calls.stream(rpc.TRAIN, request):
            job = response.event.job
        return AsyncRun(self._calls, job)

    def watch(self, job: str | int) -> AsyncRun:
        """A job that was started before, to be followed from here."""
        return AsyncRun(self._calls, job_name(job))

    async def job(self, job: str | int) -> Job:
        """One job."""
        return (await self._calls.unary(rpc.GET_JOB, pb.GetJobRequest(name=job_name(job)))).job

    async def jobs(self, model: str | None = None, *, limit: int | None = None) -> list[Job]:
        """Jobs, newest first, of all models or of one."""
        name = "" if model is None else model_name(model)

        async def page(token: str, size: int) -> tuple[list[Job], str]:
            request = pb.ListJobsRequest(model=name, page_size=size, page_token=token)
            response = await self._calls.unary(rpc.LIST_JOBS, request)
            return list(response.jobs), response.next_page_token

        return await pages(page, limit)

    async def cancel(self, job: str | int) -> Job:
        """Ends a job. What its best epoch learnt until then is stored and not promoted."""
        return (await self._calls.unary(rpc.CANCEL_JOB, pb.CancelJobRequest(name=job_name(job)))).job

    async def evaluate(
        self,
        model: str,
        examples: Examples | None = None,
        *,
        version: int | None = None,
        alias: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
    ) -> pb.EvaluateResponse:
        """Measures a version on labelled texts or, without any, on the validation examples of the model."""

        def requests() -> Iterator[pb.EvaluateRequest]:
            yield pb.EvaluateRequest(model=version_name(model, version, alias))
            if examples is not None:
                for batch in example_batches(examples, text_column, label_column):
                    yield pb.EvaluateRequest(examples=batch)

        return await self._calls.upload(rpc.EVALUATE, requests())
