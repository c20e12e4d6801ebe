"""What was acknowledged survives: an orderly restart, SIGKILL during training, SIGKILL during a merge."""

import threading
import time

import grpc
import pytest
from client import Client, job, kinds, taxonomy, training
from conftest import LARGE, SMALL

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "几点开门？"]


@pytest.fixture
def bank(own_daemon, examples):
    """A trained model in a daemon that may be killed."""
    with Client(own_daemon.address) as client:
        name = client.create("bank")
        client.add(name, examples)
        client.train(name, seed=3, epochs=3)
    return name


def test_a_restart_serves_the_same_probabilities_bit_for_bit(own_daemon, bank):
    with Client(own_daemon.address) as client:
        client.merge(bank, [SMALL, LARGE], "取款", learn=job.LEARN_NONE)
        before = client.predict(bank, TEXTS)
        model = client.model(bank)
    assert own_daemon.stop() == 0, own_daemon.tail()

    own_daemon.start()
    with Client(own_daemon.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.model(bank) == model
        client.undo(bank)
        assert client.probabilities(bank, TEXTS) == client.probabilities(f"{bank}/versions/1", TEXTS)


def test_sigkill_during_training_loses_nothing_and_the_work_is_done_again(own_daemon, bank):
    with Client(own_daemon.address) as client:
        before = client.predict(bank, TEXTS)
        stats = client.stats(bank)
        stream = client.training.Train(training.TrainRequest(model=bank, epochs=1000))
        running = next(r.event.job for r in stream if r.event.WhichOneof("event") == "progress")
        own_daemon.kill()
        with pytest.raises(grpc.RpcError):
            list(stream)

    own_daemon.start()
    with Client(own_daemon.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.stats(bank) == stats
        interrupted = client.job(running)
        assert interrupted.state == job.JOB_STATE_INTERRUPTED
        assert interrupted.message
        assert interrupted.HasField("end_time")
        # Who comes back to the job is told its end, and which one goes on with its work.
        assert kinds(client.watch(running))[-1] == "finished"
        assert client.model(bank).running_job == interrupted.continued_by != ""
        client.training.CancelJob(training.CancelJobRequest(name=interrupted.continued_by))
        assert kinds(client.watch(interrupted.continued_by))[-1] == "finished"
        again = client.train(bank, epochs=1)
        assert again[-1].finished.job.state == job.JOB_STATE_SUCCEEDED
        assert again[-1].job != running


def test_sigkill_after_the_merge_was_acknowledged_keeps_the_merge(own_daemon, bank):
    with Client(own_daemon.address) as client:
        stream = client.taxonomy.MergeClasses(
            taxonomy.MergeClassesRequest(model=bank, classes=[SMALL, LARGE], into="取款")
        )
        applied = next(stream).applied
        own_daemon.kill()

    own_daemon.start()
    with Client(own_daemon.address) as client:
        assert client.manifest(bank) == applied.manifest
        interrupted = client.job(applied.job)
        assert interrupted.state == job.JOB_STATE_INTERRUPTED
        assert kinds(client.watch(interrupted.continued_by))[-1] == "finished"
        assert client.job(interrupted.continued_by).state == job.JOB_STATE_SUCCEEDED
        before, after = (client.probabilities(f"{bank}/versions/{n}", TEXTS) for n in (1, 2))
        for was, now in zip(before, after):
            assert now["取款"] == pytest.approx(was[SMALL] + was[LARGE], abs=1e-6)
        client.undo(bank)
        assert client.probabilities(bank, TEXTS) == before


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_sigkill_at_any_moment_of_a_merge_leaves_all_or_nothing(own_daemon, bank, delay):
    acknowledged = []

    def merge():
        request = taxonomy.MergeClassesRequest(model=bank, classes=[SMALL, LARGE], into="取款")
        try:
            for message in client.taxonomy.MergeClasses(request):
                acknowledged.append(message.WhichOneof("result"))
        except grpc.RpcError:
            pass  # The daemon was killed.

    with Client(own_daemon.address) as client:
        client.model(bank)  # Connects, so that the delay runs from the call and not from the handshake.
        caller = threading.Thread(target=merge)
        caller.start()
        time.sleep(delay)  # Which moment of the merge is hit; the outcome must be right for each.
        own_daemon.kill()
        caller.join()

    own_daemon.start()
    with Client(own_daemon.address) as client:
        names = {c.name for c in client.manifest(bank).classes if c.leaves}
        merged = "取款" in names
        assert merged != ({SMALL, LARGE} <= names)
        assert merged or not acknowledged
        serving = client.model(bank).aliases["serving"]
        response = client.predict(bank, TEXTS)
        assert response.version == f"{bank}/versions/{serving}"
        assert {c.name for c in response.predictions[0].classes} == names
        # Work that was begun is gone on with.
        assert merged or client.model(bank).running_job == ""
