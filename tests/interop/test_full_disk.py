"""A disk that others fill: what was acknowledged stays, Predict goes on, and everything does once there is room again."""

import contextlib
import os
import subprocess
import sys
import threading

import grpc
import pytest
from client import Client, dataset, job, refused, training
from daemon import Daemon, binary
from grpc_health.v1 import health_pb2

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



RESERVE = 16 << 20
WRITING = "taxond.v1.DatasetService"


def serves(client, service):
    answer = client.health.Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def run(*arguments, status=0, **environment):
    """Runs a command on a data folder, and returns what it printed."""
    done = subprocess.run(
        [binary(), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def reserved(folder):
    file = folder / "reserve"
    return file.exists() and file.stat().st_blocks * 512 >= RESERVE


def test_a_start_on_a_full_disk_takes_the_reserve_and_gives_it_back(small, disk, bank):
    with Client(small.address) as client:
        before = client.predict(bank, TEXTS)
    assert reserved(small.data_dir)
    assert small.stop() == 0, small.tail()
    disk.fill()
    small.start()
    assert not reserved(small.data_dir)
    with Client(small.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert serves(client, WRITING)
        with refused() as refusals:
            client.add(bank, numbered(10))
        assert refusals[0].info.reason == "DISK_SPACE"
        # What gives room can be done.
        assert client.delete_examples(bank, {"ids": [client.examples(bank)[0].id]}).deleted == 1
    assert small.stop() == 0, small.tail()
    disk.clear()
    small.start()
    with Client(small.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.add(bank, numbered(10)).added == 10
    assert small.stop() == 0, small.tail()
    assert reserved(small.data_dir)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_where_nothing_can_be_written_predict_goes_on_from_a_copy(small, disk, bank, tmp_path, monkeypatch, how):
    with Client(small.address) as client:
        before, count = client.predict(bank, TEXTS), client.model(bank).example_count
    assert small.stop() == 0, small.tail()
    if how == "full":
        (small.data_dir / "reserve").unlink()
        disk.fill()
        reason = "is full: 0 MiB free, "
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
        reason = "is on a file system that is mounted read-only"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    # A copy that a killed process left.
    data = small.data_dir.stat()
    (scratch / f"taxond-read-only-{data.st_dev:x}-{data.st_ino:x}" / "blobs").mkdir(parents=True)
    found = {path: path.stat().st_mtime_ns for path in small.data_dir.rglob("*") if path.is_file()}

    small.start()
    with Client(small.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.model(bank).example_count == count
        assert not serves(client, WRITING)
        assert serves(client, "taxond.v1.PredictService")
        for call in [lambda: client.add(bank, numbered(1)), lambda: client.create("other")]:
            with refused() as refusals:
                call()
            assert refusals[0].code == grpc.StatusCode.UNAVAILABLE
            assert reason in refusals[0].message, refusals[0].message
            assert "restart taxond" in refusals[0].message or "make room" in refusals[0].message
    assert names(scratch) == [], "the copy is unlinked as soon as it is open"
    assert small.stop() == 0, small.tail()
    assert {path: path.stat().st_mtime_ns for path in small.data_dir.rglob("*") if path.is_file()} == found

    # The folder is checked as well, from a copy, and says what is wrong with it where there is no room for one.
    assert "everything is whole" in run("fsck", "--data-dir", small.data_dir)
    if how == "full":
        disk.clear()
    else:
        subprocess.run(["mount", "-o", "remount,rw", disk.path], check=True)
    small.start()
    with Client(small.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.add(bank, numbered(10)).added == 10
    assert small.stop() == 0, small.tail()


def test_without_room_anywhere_a_start_says_what_to_do(small, disk, bank):
    assert small.stop() == 0, small.tail()
    (small.data_dir / "reserve").unlink()
    disk.fill()
    # The memory is another place for a copy: this process alone has none of it.
    serve = [binary(), "serve", "--listen", "127.0.0.1:0", "--data-dir", str(small.data_dir)]
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    environment = {**os.environ, "TMPDIR": str(disk.path)}
    done = subprocess.run(alone + serve, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 1, done.stderr
    for part in ["is full: 0 MiB free", "MiB needed to open the database", "compact --to DIR", "MiB free in TMPDIR"]:
        assert part in done.stderr, done.stderr
    assert "Os {" not in done.stderr


def test_a_data_folder_on_a_full_disk_is_written_anew_elsewhere(small, disk, bank, tmp_path):
    with Client(small.address) as client:
        before, count = client.predict(bank, TEXTS), client.model(bank).example_count
    assert small.stop() == 0, small.tail()
    disk.fill()
    held = [name for name in names(small.data_dir) if name != "reserve"]

    # Beside the old database there is no room: told before anything is written, and nothing is left.
    (small.data_dir / "reserve").unlink()
    disk.fill(leave=9 << 20)
    told = run("compact", "--data-dir", small.data_dir, status=1)
    assert "is full: " in told and "needed to write the data folder anew" in told and "--to DIR" in told, told
    assert "Os {" not in told
    assert names(small.data_dir) == held

    inside = small.data_dir / "below"
    assert "must be outside the data folder" in run("compact", "--data-dir", small.data_dir, "--to", inside, status=4)
    assert names(small.data_dir) == held

    elsewhere = tmp_path / "elsewhere"
    disk.fill()
    told = run("compact", "--data-dir", small.data_dir, "--to", elsewhere)
    assert str(elsewhere) in told
    assert names(small.data_dir) == held
    assert names(elsewhere) == ["db", "format", "high-water", "lock"]
    moved = Daemon(elsewhere, tmp_path / "log-elsewhere").start()
    with Client(moved.address) as client:
        assert client.predict(bank, TEXTS) == before
        assert client.model(bank).example_count == count
        assert client.add(bank, numbered(10)).added == 10
    assert moved.stop() == 0, moved.tail()
    assert "is not empty" in run("compact", "--data-dir", small.data_dir, "--to", elsewhere, status=4)


def test_a_full_disk_under_a_copy_is_told_and_leaves_nothing(small, disk, bank, tmp_path):
    backup = tmp_path / "backup"
    run("--addr", f"http://{small.address}", "backup", backup)
    kept = os.statvfs(disk.path).f_bavail * os.statvfs(disk.path).f_frsize
    disk.fill(leave=1 << 20)
    for arguments in [
        ["backup", disk.path / "backup"],
        ["export", "bank", "--out", disk.path / "bank.safetensors"],
    ]:
        told = run("--addr", f"http://{small.address}", *arguments, status=1)
        assert f"the disk of {disk.path} is full (" in told and "on another disk" in told, told
        assert names(disk.path) == ["data", "filler"]
    restored = disk.path / "restored"
    told = run("restore", backup, "--data-dir", restored, status=1)
    assert f"the disk of {restored} is full: " in told and "on another disk" in told, told
    assert "db" not in names(restored) and "restoring" in names(restored)
    disk.clear()
    assert os.statvfs(disk.path).f_bavail * os.statvfs(disk.path).f_frsize >= kept - (1 << 20)
    assert "everything is whole" in run("restore", backup, "--data-dir", restored)
