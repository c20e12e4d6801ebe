"""SIGTERM amid everything: a training that is watched, streams, uploads and callers that ask without a pause."""

import queue
import threading

import grpc
import pytest
from client import Client, dataset, job, predict, predict_service_pb2_grpc, taxonomy, training

TEXTS = ["我想取三万元现金", "please block my lost card"]
CALLERS = 4
# So many answers each before the stop.
ANSWERS = 25


class Messages:
    """The messages of a stream, given one by one."""

    def __init__(self, first):
        self._waiting = queue.Queue()
        self.give(first)

    def give(self, message):
        self._waiting.put(message)

    def end(self):
        self._waiting.put(None)

    def __iter__(self):
        return iter(self._waiting.get, None)


class Caller:
    """Asks on a connection of its own until a call fails. Nothing tries again for it."""

    def __init__(self, address, request):
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = predict_service_pb2_grpc.PredictServiceStub(self._channel)
        self._request = request
        self._enough = threading.Event()
        self.answers, self.failure = [], None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def had_answers(self):
        self._enough.wait(60)

    def ended(self):
        self._thread.join(60)
        self._channel.close()
        return self.failure

    def _run(self):
        try:
            while True:
                self.answers.append(self._predictions.Predict(self._request, timeout=60))
                if len(self.answers) == ANSWERS:
                    self._enough.set()
        except grpc.RpcError as error:
            self.failure = error
            self._enough.set()


def upload(model, text):
    return dataset.AddExamplesRequest(model=model, examples=[dataset.LabelledText(text=text, label="balance")])


def begin_upload(client, model):
    """A call that uploads, once the daemon has its first message: then another one is refused."""
    while True:
        messages = Messages(upload(model, "first of a stream"))
        answer = client.dataset.AddExamples.future(iter(messages))
        try:
            while not answer.done():
                client.add(model, [("of another call", "balance")])
        except grpc.RpcError as refused:
            assert refused.code() == grpc.StatusCode.ABORTED
            return messages, answer


def came_to_nobody(failure):
    """Whether a call found no connection, or one that was closed in order before the daemon took the call."""
    return failure.code() == grpc.StatusCode.UNAVAILABLE and any(
        cause in failure.details() for cause in ["failed to connect", "GOAWAY", "Connection refused"]
    )


@pytest.fixture
def bank(own_daemon, examples):
    with Client(own_daemon.address) as client:
        name = client.create("bank")
        client.add(name, examples)
        client.train(name, seed=3, epochs=2)
        client.create("shop")
    return name


def test_a_stop_fails_no_predict_and_loses_nothing_acknowledged(own_daemon, bank):
    with Client(own_daemon.address) as client:
        events = client.training.Train(training.TrainRequest(model=bank, epochs=1000))
        running = next(r.event.job for r in events if r.event.WhichOneof("event") == "progress")
        questions = Messages(predict.PredictStreamRequest(model=bank, texts=TEXTS))
        stream = client.predictions.PredictStream(iter(questions))
        next(stream)
        ends, ended = begin_upload(client, "models/shop")
        never_ends, cut = begin_upload(client, bank)
        count = client.model(bank).example_count
        request = predict.PredictRequest(model=bank, texts=TEXTS, top_k=1000)
        callers = [Caller(own_daemon.address, request) for _ in range(CALLERS)]
        for caller in callers:
            caller.had_answers()

        status = []
        stopping = threading.Thread(target=lambda: status.append(own_daemon.stop()))
        stopping.start()
        # The stream ends when the daemon has begun to stop; a call that is under way goes on, and what it is answered is kept.
        with pytest.raises(grpc.RpcError) as stopped:
            next(stream)
        assert stopped.value.code() == grpc.StatusCode.UNAVAILABLE
        ends.give(upload("models/shop", "last of a stream"))
        ends.end()
        shop = ended.result().total
        assert ended.result().added == 2
        assert list(events)[-1].event.finished.job.state == job.JOB_STATE_INTERRUPTED
        for caller in callers:
            assert came_to_nobody(caller.ended()), caller.failure
        # One upload does not end by itself: the daemon ends when the time to drain is over.
        stopping.join()
        assert status == [0], own_daemon.tail()
        assert cut.exception() is not None
        never_ends.end()
    first = callers[0].answers[0]
    assert all(len(caller.answers) >= ANSWERS for caller in callers)
    assert all(answer == first for caller in callers for answer in caller.answers)

    own_daemon.start()
    with Client(own_daemon.address) as client:
        assert client.model(bank).example_count == count
        assert client.model("models/shop").example_count == shop
        interrupted = client.job(running)
        assert interrupted.state == job.JOB_STATE_INTERRUPTED
        assert interrupted.continued_by
        assert client.predict(bank, TEXTS) == first


def test_work_in_the_midst_of_calls_does_not_outlive_the_stop(own_daemon, bank):
    """Splits by patterns that look through long texts for minutes; boundaries of words beyond ASCII are what makes them slow."""
    with Client(own_daemon.address) as client:
        for number in range(4):
            long = [(f"{number} {i} " + "é balance of 12 accounts " * 2300, "balance") for i in range(32)]
            client.add(bank, long, batch=32)
        parts = [
            taxonomy.ClassPart(name=f"part {i}", pattern=rf"(?:\b[a-zé]+\b ){{{20 + i % 9}}}\b[0-9]{{5}}\b")
            for i in range(200)
        ]
        parts.append(taxonomy.ClassPart(name="rest", remaining=True))
        request = taxonomy.SplitClassRequest(model=bank, class_name="balance", parts=parts, validate_only=True)
        splits = [client.taxonomy.SplitClass(request) for _ in range(8)]
        client.model(bank)
        assert own_daemon.stop() == 0, own_daemon.tail()
        for split in splits:
            assert split.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), split.details()
