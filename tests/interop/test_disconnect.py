"""A client that goes away takes nothing with it: jobs run on and can be followed again."""

from client import Client, job, kinds, training


def test_a_job_outlives_the_client_that_asked_for_it(daemon, client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, examples)
    with Client(daemon.address) as other:
        stream = other.training.Train(training.TrainRequest(model=name, epochs=5))
        accepted = next(stream).event
        assert accepted.WhichOneof("event") == "accepted"
        stream.cancel()

    events = client.watch(accepted.job)
    assert [k for k in kinds(events) if k != "progress"] == ["accepted", "planned", "published", "finished"]
    assert events[-1].finished.job.state == job.JOB_STATE_SUCCEEDED
    assert client.model(name).aliases["serving"] == 1


def test_a_detached_training_ends_its_stream_at_once(client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, examples)
    events = client.train(name, epochs=5, detach=True)
    assert kinds(events) == ["accepted"]
    assert client.watch(events[0].job)[-1].finished.job.state == job.JOB_STATE_SUCCEEDED


def test_a_cancelled_job_says_so_and_leaves_the_model_usable(client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, examples)
    stream = client.training.Train(training.TrainRequest(model=name, epochs=1000))
    running = next(stream).event.job
    client.training.CancelJob(training.CancelJobRequest(name=running))
    last = [r.event for r in stream][-1]
    assert last.finished.job.state == job.JOB_STATE_CANCELLED
    assert client.train(name, epochs=1)[-1].finished.job.state == job.JOB_STATE_SUCCEEDED
