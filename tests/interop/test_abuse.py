"""Hostile connections cost others nothing: an ordinary client is answered all the while, and the daemon does not grow."""

import sys
import threading

import abuse
import grpc
import http2
import pytest
from client import Client, dataset
from daemon import Daemon
from grpc_health.v1 import health_pb2

TEXTS = ["我想取三万元现金", "please block my lost card"]
# Of each abuse: twice what any takes, and far below what would be kept if nothing bounded it.
GROWTH_BYTES = 32 << 20
# An abuse goes on until the ordinary client had so many answers under it.
ANSWERS = 25
# What a flood sends where nothing ends it: tens of thousands of frames.
FLOOD_BYTES = 1 << 20
LOG_BYTES = 64 << 10
# docs/operations.md, Limits.
STREAMS = 128
# What never comes is given up on after so many seconds.
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has in memory")


class Ordinary:
    """A client on a connection of its own that asks without a pause, and notes what did not go as it should."""

    def __init__(self, address, model):
        self._client, self._model = Client(address), model
        self._expected = self._client.predict(model, TEXTS)
        self._answered = threading.Condition()
        self._answers, self._stop = 0, False
        self.failures = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def had_answers(self, count=ANSWERS):
        """Waits for so many answers from now on; false where a call failed instead."""
        with self._answered:
            goal = self._answers + count
            return self._answered.wait_for(lambda: self.failures or self._answers >= goal) and not self.failures

    def stop(self):
        self._stop = True
        self._thread.join()
        self._client.channel.close()

    def _run(self):
        while not self._stop:
            failure = None
            try:
                if self._client.predict(self._model, TEXTS) != self._expected:
                    failure = "another answer"
                health = self._client.health.Check(health_pb2.HealthCheckRequest())
                if health.status != health_pb2.HealthCheckResponse.SERVING:
                    failure = f"health says {health}"
            except grpc.RpcError as error:
                failure = error
            with self._answered:
                self._answers += 1
                self.failures += [failure] if failure else []
                self._answered.notify_all()


@pytest.fixture(scope="module")
def abused(tmp_path_factory, examples):
    """A daemon of its own, with a model that has learnt."""
    folder = tmp_path_factory.mktemp("abused")
    running = Daemon(folder / "data", folder / "log").start()
    with Client(running.address) as client:
        client.add(client.create("bank"), examples)
        client.train("models/bank", seed=3, epochs=2)
    yield running
    assert running.running(), running.tail()
    assert running.stop() == 0, running.tail()


@pytest.fixture(autouse=True)
def ordinary(abused):
    """The ordinary client, who must come to no harm, and memory, which must not grow."""
    asking = Ordinary(abused.address, "models/bank")
    assert asking.had_answers()
    before = abused.resident()
    yield asking
    unharmed = asking.had_answers()
    asking.stop()
    assert unharmed, asking.failures
    growth = abused.resident() - before
    assert growth < GROWTH_BYTES, f"{growth >> 20} MiB more in memory"


def flood(connection, pieces, until=lambda: False, most=FLOOD_BYTES):
    """Sends pieces and reads along until the connection is closed, or both so much was sent and `until` is true."""
    sent = 0
    for piece in pieces:
        if not connection.send(piece, timeout=PATIENCE_SECONDS):
            return
        connection.receive()
        sent += len(piece)
        if sent >= most and until():
            return


def wait_for(connection, condition):
    """Reads until a condition holds, the connection is closed, or nothing has come for long; says whether the condition holds."""
    while not condition() and not connection.closed and connection.receive(PATIENCE_SECONDS):
        pass
    return condition()


@pytest.mark.parametrize(
    "pieces", [abuse.rapid_reset, abuse.continuation, abuse.giant_headers, abuse.empty_data], ids=lambda pieces: pieces.__name__
)
def test_a_flood_that_has_a_limit_ends_its_connection(abused, pieces):
    with http2.Connection(abused.address) as hostile:
        flood(hostile, pieces(), most=64 * FLOOD_BYTES)
        wait_for(hostile, lambda: False)
        assert hostile.closed
        # What was not read when it closed may be lost, the farewell with it.
        assert hostile.farewell in (None, http2.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize(
    "pieces", [abuse.rapid_reset, abuse.continuation, abuse.giant_headers], ids=lambda pieces: pieces.__name__
)
def test_who_comes_back_after_each_farewell_is_sent_away_again(abused, ordinary, pieces):
    asked = threading.Thread(target=ordinary.had_answers)
    asked.start()
    while asked.is_alive():
        with http2.Connection(abused.address) as hostile:
            flood(hostile, pieces(), most=64 * FLOOD_BYTES)
            assert hostile.closed


@pytest.mark.parametrize("pieces", [abuse.pings, abuse.pongs, abuse.settings], ids=lambda pieces: pieces.__name__)
def test_a_flood_without_a_limit_is_put_up_with_and_not_logged(abused, ordinary, pieces):
    asked = threading.Thread(target=ordinary.had_answers)
    logged = abused.log.stat().st_size
    with http2.Connection(abused.address) as hostile:
        asked.start()
        flood(hostile, pieces(), until=lambda: not asked.is_alive())
    asked.join()
    assert abused.log.stat().st_size - logged < LOG_BYTES


def test_who_reads_no_answers_is_not_heard_any_more(abused):
    # Were they kept for it, they would fill the memory.
    with http2.Connection(abused.address) as hostile:
        pieces = abuse.pings()
        while hostile.send(b"".join(next(pieces) for _ in range(10_000)), timeout=1):
            pass
        assert not hostile.closed


def test_calls_without_a_window_take_the_streams_of_their_connection_and_no_more(abused, ordinary):
    beyond = 50
    request = dataset.ListExamplesRequest(model="models/bank", page_size=1000).SerializeToString()
    calls = abuse.calls(abuse.LIST_EXAMPLES, request)
    with http2.Connection(abused.address, settings=abuse.NO_WINDOW) as hostile:
        for _ in range(STREAMS + beyond):
            assert hostile.send(next(calls))
        assert wait_for(hostile, lambda: len(hostile.resets) == beyond), hostile.resets
        assert set(hostile.resets.values()) == {http2.REFUSED_STREAM}
        assert ordinary.had_answers()
        assert not hostile.answered and not hostile.closed


def test_a_call_with_large_headers_is_refused_by_itself(abused):
    with http2.Connection(abused.address) as hostile:
        large = http2.header(b"x-note", b"n" * 24 * 1024)
        hostile.send(abuse.whole_call(1, abuse.HEALTH, b"", more=large) + abuse.whole_call(3, abuse.HEALTH, b""))
        assert wait_for(hostile, lambda: {1, 3} <= hostile.ended)
        assert hostile.answered == {3}


def test_who_greets_slowly_is_hung_up_on(abused):
    with http2.Connection(abused.address, preface=b"") as hostile:
        for byte in http2.PREFACE[:-1]:
            # A second between bytes: the greeting would take longer than it may.
            if not hostile.send(bytes([byte])) or hostile.receive(timeout=1) or hostile.closed:
                break
        assert hostile.closed
