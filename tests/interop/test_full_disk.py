"""A disk that others fill: what was acknowledged stays, Predict goes on, and everything does once there is room again."""

import contextlib
import os
import subprocess
import sys
import threading

import grpc
import pytest
from client import Client, dataset, job, refused, training
from daemon import Daemon

DISK_MIB = 160
TEXTS = ["我想取三万元现金", "please block my lost card"]

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and os.geteuid() == 0), reason="only root may mount a small disk"
)


class Disk:
    """A file system of its own, in memory, and a file that takes its room."""

    def __init__(self, path):
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave=0):
        """Takes all room but so many bytes."""
        free = os.statvfs(self.path)
        with self._filler.open("ab") as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), filler.tell(), max(free.f_bavail * free.f_frsize - leave, 1))

    def clear(self):
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", path]).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield Disk(path)
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def small(disk, tmp_path):
    """A daemon whose data folder is on the small disk."""
    running = Daemon(disk.path / "data", tmp_path / "log").start()
    yield running
    if running.running():
        running.kill()


@pytest.fixture
def bank(small, examples):
    with Client(small.address) as client:
        name = client.create("bank")
        client.add(name, examples)
        client.train(name, seed=3, epochs=2)
    return name


def numbered(count, offset=0):
    return [(f"example number {offset + number}", "balance") for number in range(count)]


def test_with_little_room_nothing_comes_in_and_the_rest_goes_on(small, disk, bank):
    with Client(small.address) as client:
        before, count = client.predict(bank, TEXTS), client.stats(bank)
        disk.fill(leave=4 << 20)
        for call in [
            lambda: client.add(bank, numbered(10)),
            lambda: client.relabel(bank, "balance", {"text_contains": "card"}),
            lambda: client.create("another"),
        ]:
            with refused() as refusals:
                call()
            assert refusals[0].code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusals[0].info.reason == "DISK_SPACE"
        assert client.predict(bank, TEXTS) == before
        assert client.stats(bank) == count
        first = client.examples(bank)[0]
        assert client.delete_examples(bank, {"ids": [first.id]}).deleted == 1

        disk.clear()
        assert client.add(bank, numbered(10)).added == 10
        client.train(bank, epochs=1)
        assert client.model(bank).latest_version == 2


def test_a_disk_that_fills_under_a_training_costs_the_training_alone(small, disk, bank):
    with Client(small.address) as client:
        before = client.predict(bank, TEXTS)
        stream = client.training.Train(training.TrainRequest(model=bank, epochs=12))
        running = next(r.event.job for r in stream if r.event.WhichOneof("event") == "progress")
        disk.fill(leave=4 << 20)
        ended = [r.event for r in stream][-1].finished.job
        assert ended.name == running
        assert ended.state == job.JOB_STATE_FAILED
        assert "free" in ended.message, ended.message
        assert client.predict(bank, TEXTS) == before
        disk.clear()
        assert client.train(bank, epochs=1)[-1].finished.job.state == job.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("leave", [4 << 20, 0], ids=["little room", "no room"])
def test_a_disk_that_fills_under_a_stream_leaves_all_of_it_or_nothing(small, disk, bank, leave):
    with Client(small.address) as client:
        count = client.model(bank).example_count
        sent = threading.Event()

        def messages():
            for piece in range(40):
                pairs = [dataset.LabelledText(text=text * 20, label=label) for text, label in numbered(200, 200 * piece)]
                yield dataset.AddExamplesRequest(model=bank, examples=pairs)
                if piece == 10:
                    sent.set()
                    full.wait(60)

        full = threading.Event()
        filler = threading.Thread(target=lambda: (sent.wait(60), disk.fill(leave), full.set()))
        filler.start()
        added = 0
        with contextlib.suppress(grpc.RpcError):
            added = client.dataset.AddExamples(messages()).added
        filler.join()
        before = client.predict(bank, TEXTS)
        assert client.model(bank).example_count == count + added

        # Neither a stop at any moment nor a start on the full disk loses anything.
        small.kill()
        with contextlib.suppress(AssertionError):
            small.start()
            small.kill()
        disk.clear()
        small.start()
    with Client(small.address) as client:
        assert client.model(bank).example_count == count + added
        assert client.predict(bank, TEXTS) == before
        assert client.add(bank, numbered(10, 100_000)).added == 10
    assert small.stop() == 0, small.tail()

