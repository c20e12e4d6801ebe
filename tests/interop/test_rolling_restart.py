"""Restarts behind a client that has the service config which we ship: it asks without a pause, and no Predict fails."""

import threading

import grpc
import pytest
from client import Client, predict, predict_service_pb2_grpc
from conftest import HERE

SERVICE_CONFIG = HERE.parent.parent / "deploy" / "grpc-service-config.json"
TEXTS = ["我想取三万元现金", "please block my lost card"]
RESTARTS = 3
# So many answers before the first stop, between two restarts, and after the last.
ANSWERS = 50
CALLERS = 4
DEADLINE_SECONDS = 60


class Caller:
    """Asks on a channel with the service config until it is told to stop."""

    def __init__(self, address, request):
        options = [("grpc.service_config", SERVICE_CONFIG.read_text()), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = predict_service_pb2_grpc.PredictServiceStub(self._channel)
        self._request = request
        self._answered = threading.Condition()
        self._answers, self._stop = [], False
        self.failures = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def had_answers(self, count=ANSWERS):
        """Waits for so many answers from now on, or a failure."""
        with self._answered:
            goal = len(self._answers) + count
            self._answered.wait_for(lambda: self.failures or len(self._answers) >= goal)

    def stop(self):
        """Ends it, and returns the answers."""
        self._stop = True
        self._thread.join()
        self._channel.close()
        return self._answers

    def _run(self):
        while not self._stop and not self.failures:
            answer = None
            try:
                answer = self._predictions.Predict(self._request, timeout=DEADLINE_SECONDS)
            except grpc.RpcError as error:
                self.failures.append(error)
            with self._answered:
                self._answers += [answer] if answer else []
                self._answered.notify_all()


@pytest.fixture
def bank(own_daemon, examples):
    with Client(own_daemon.address) as client:
        name = client.create("bank")
        client.add(name, examples)
        client.train(name, seed=3, epochs=2)
    return name


def test_no_predict_fails_while_the_daemon_is_restarted(own_daemon, bank):
    port = int(own_daemon.address.rsplit(":", 1)[1])
    request = predict.PredictRequest(model=bank, texts=TEXTS, top_k=1000)
    callers = [Caller(own_daemon.address, request) for _ in range(CALLERS)]
    try:
        for caller in callers:
            caller.had_answers()
        for _ in range(RESTARTS):
            assert own_daemon.stop() == 0, own_daemon.tail()
            own_daemon.start(port)
            for caller in callers:
                caller.had_answers()
    finally:
        answers = [caller.stop() for caller in callers]
    assert not any(caller.failures for caller in callers), [caller.failures for caller in callers]
    first = answers[0][0]
    assert all(answer == first for of_one in answers for answer in of_one)
