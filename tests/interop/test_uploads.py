"""Uploads that their client gives up: a deadline or a cancel in the middle stores nothing, and the same call again stores all."""

import queue
import threading

import grpc
import pytest
from client import Client, dataset, registry

# Seconds between the last message that is sent and the client's giving up.
PAUSES = [0, 0.001, 0.01, 0.05, 0.1]
MESSAGES, EACH = 4, 50


def messages(model, request_id):
    """The messages of an upload."""
    for at in range(MESSAGES):
        pairs = [dataset.LabelledText(text=f"{at} {i} lorem ipsum", label="x") for i in range(EACH)]
        first = {"model": model, "request_id": request_id} if at == 0 else {}
        yield dataset.AddExamplesRequest(examples=pairs, **first)


class Half:
    """The first half of the messages, and then nothing until it is told to end."""

    def __init__(self, of):
        self._waiting = queue.Queue()
        self.sent = threading.Event()
        for message, _ in zip(of, range(MESSAGES // 2)):
            self._waiting.put(message)
        self._waiting.put("all sent")

    def end(self):
        self._waiting.put(None)

    def __iter__(self):
        for message in iter(self._waiting.get, None):
            if message == "all sent":
                self.sent.set()
            else:
                yield message


def again(client, model, request_id):
    """The whole upload, once the daemon has noticed that the first one was given up."""
    while True:
        try:
            return client.dataset.AddExamples(messages(model, request_id))
        except grpc.RpcError as busy:
            assert busy.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED), busy


@pytest.mark.parametrize("pause", PAUSES)
def test_an_upload_that_is_cancelled_is_not_stored(client, fresh_id, pause):
    model = client.create(fresh_id("cut"))
    half = Half(messages(model, f"{model}-cancel"))
    call = client.dataset.AddExamples.future(iter(half))
    assert half.sent.wait(60)
    threading.Event().wait(pause)
    call.cancel()
    half.end()
    added = again(client, model, f"{model}-cancel")
    assert (added.added, added.duplicates, added.total) == (MESSAGES * EACH, 0, MESSAGES * EACH)
    assert client.stats(model).total == MESSAGES * EACH


@pytest.mark.parametrize("pause", PAUSES[1:])
def test_an_upload_whose_deadline_passes_is_not_stored(client, fresh_id, pause):
    model = client.create(fresh_id("late"))
    half = Half(messages(model, f"{model}-deadline"))
    with pytest.raises(grpc.RpcError) as late:
        client.dataset.AddExamples(iter(half), timeout=pause)
    half.end()
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    added = again(client, model, f"{model}-deadline")
    assert (added.added, added.duplicates) == (MESSAGES * EACH, 0)


def test_an_import_that_is_cancelled_behind_its_last_byte_stores_no_version(client, fresh_id, trained):
    pieces = [r.data for r in client.registry.ExportVersion(registry.ExportVersionRequest(name=f"{trained}@serving"))]
    model = client.create(fresh_id("import"))

    class Open:
        """All bytes, and no end."""

        def __init__(self):
            self.ended, self.sent = threading.Event(), threading.Event()

        def __iter__(self):
            for at, data in enumerate(pieces):
                first = {"model": model, "request_id": f"{model}-import"} if at == 0 else {}
                yield registry.ImportVersionRequest(data=data, **first)
            self.sent.set()
            self.ended.wait(60)

    for pause in PAUSES:
        upload = Open()
        call = client.registry.ImportVersion.future(iter(upload))
        assert upload.sent.wait(60)
        threading.Event().wait(pause)
        call.cancel()
        upload.ended.set()
        # Another request with the same id is refused for what it is, and not for what the first one stored.
        while True:
            other = registry.ImportVersionRequest(model=model, request_id=f"{model}-import", data=b"no archive at all")
            with pytest.raises(grpc.RpcError) as refused:
                client.registry.ImportVersion(iter([other]))
            if refused.value.code() != grpc.StatusCode.UNAVAILABLE:
                break
        assert refused.value.details().startswith("data: "), refused.value.details()
        assert not client.registry.ListVersions(registry.ListVersionsRequest(model=model)).versions


def test_a_deadline_that_passes_is_always_said_to_be_one(daemon, fresh_id):
    """Also where the answer of the daemon is there before the clock of the client."""
    with Client(daemon.address) as client:
        codes = set()
        for number in range(60):
            model = client.create(fresh_id("deadline"))
            half = Half(messages(model, f"{model}-{number}"))
            try:
                client.dataset.AddExamples(iter(half), timeout=0.02 + number % 7 / 1000)
            except grpc.RpcError as error:
                codes.add(error.code())
            half.end()
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
