"""The client for asyncio says what the blocking one says."""

import asyncio

import pytest
from conftest import LARGE, SMALL
from taxond import AsyncClient, InvalidArgument, NotFound
from taxond.v1.job_pb2 import JOB_STATE_SUCCEEDED

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "what is my balance"]


def test_the_main_job(daemon, fresh, examples):
    async def session():
        name = fresh("aio")
        async with AsyncClient(daemon.address) as client:
            await client.create_model(name)
            assert (await client.add_examples(name, examples)).added == len(examples)
            run = await client.train(name, epochs=2, seed=1)
            kinds = [event.kind async for event in run]
            assert kinds[0] == "accepted" and kinds[-1] == "finished" and "progress" in kinds
            assert (await run.wait()).state == JOB_STATE_SUCCEEDED
            before = await client.predict(name, TEXTS)
            change = await client.merge(name, [SMALL, LARGE], into="取款")
            assert (await change.run.wait()).state == JOB_STATE_SUCCEEDED
            assert await client.predict(name, TEXTS, revision=1, version=change.version.number) == before
            await client.undo(name)
            many = await client.predict(name, TEXTS * 300)
            assert len(many) == 1200
            assert [answer.label async for answer in client.classify_each(name, iter(TEXTS * 300))] == many
            assert len([example async for example in client.examples(name)]) == len(examples)
            answers = await asyncio.gather(*(client.predict(name, text) for text in TEXTS * 10))
            assert answers == before * 10
            assert len(await client.history(name)) == 3

    asyncio.run(session())


def test_failures(daemon, fresh):
    async def session():
        async with AsyncClient(daemon.address) as client:
            with pytest.raises(NotFound) as failed:
                await client.predict("nowhere", "hello")
            assert failed.value.resource.name == "models/nowhere"
            with pytest.raises(NotFound):
                await client.add_examples("nowhere", ((f"text {n}", "a") for n in range(100_000)))
            name = fresh("aio")
            await client.create_model(name)
            with pytest.raises(InvalidArgument):
                await client.add_examples(name, [("fine", "a"), ("", "a")])

            def rows():
                yield from ((f"text {n}", "a") for n in range(5000))
                raise OSError("the disk is gone")

            with pytest.raises(OSError, match="the disk is gone"):
                await client.add_examples(name, rows())
            with pytest.raises(TypeError, match="text 1 is no string"):
                async for _ in client.classify_each(name, ["fine", None]):
                    pass
            assert (await client.stats(name)).total == 0

    asyncio.run(session())
