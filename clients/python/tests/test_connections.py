"""Reaching the daemon: retries, restarts, sockets, TLS, tokens, who calls."""

import json
import signal
import subprocess
import sys
from concurrent import futures

import grpc
import pytest
from conftest import LARGE, SMALL, TREE, Daemon
from taxond import Client, JobFailed, ResourceExhausted, Tls, Unavailable, _methods
from taxond.address import shipped_service_config
from taxond.v1 import predict_service_pb2, taxonomy_service_pb2
from taxond.v1.job_pb2 import JOB_STATE_INTERRUPTED


class Fake:
    """A daemon that refuses the first calls, and keeps what it was asked."""

    def __init__(self, refusals, code):
        self.refusals, self.code = refusals, code
        self.calls = []

    def __call__(self, request, context):
        self.calls.append((request, dict(context.invocation_metadata())))
        if len(self.calls) <= self.refusals:
            context.abort(self.code, "not now")
        if isinstance(request, taxonomy_service_pb2.UndoChangeRequest):
            return taxonomy_service_pb2.UndoChangeResponse()
        answer = predict_service_pb2.Prediction(classes=[predict_service_pb2.ScoredClass(name="yes")])
        return predict_service_pb2.PredictResponse(predictions=[answer], version="models/m/versions/1")


@pytest.fixture
def serve(tmp_path):
    """Serves Predict and UndoChange at an address, as a fake says."""
    running = []

    def start(fake, address="127.0.0.1:0", credentials=None):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        for method in (_methods.PREDICT, _methods.UNDO_CHANGE):
            service, name = method.path.strip("/").split("/")
            handler = grpc.unary_unary_rpc_method_handler(
                fake, method.request.FromString, method.response.SerializeToString
            )
            generic = grpc.method_handlers_generic_handler(service, {name: handler})
            server.add_generic_rpc_handlers((generic,))
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        running.append(server)
        return f"127.0.0.1:{port}" if not address.startswith("unix:") else address

    yield start
    for server in running:
        server.stop(None)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_predict_is_repeated(serve, code):
    fake = Fake(3, code)
    with Client(serve(fake)) as client:
        assert client.predict("m", "hello") == "yes"
    assert len(fake.calls) == 4


def test_a_change_is_repeated_under_the_same_request_id(serve):
    fake = Fake(2, grpc.StatusCode.UNAVAILABLE)
    with Client(serve(fake)) as client:
        client.undo("m")
        client.undo("m", request_id="mine")
    ids = [request.request_id for request, _ in fake.calls]
    assert len(ids) == 4 and len(set(ids[:3])) == 1 and len(ids[0]) == 32 and ids[3] == "mine"


def test_what_must_not_be_repeated_is_not(serve):
    for config, code in (({}, grpc.StatusCode.UNAVAILABLE), (None, grpc.StatusCode.INTERNAL)):
        fake = Fake(1, code)
        with Client(serve(fake), service_config=config) as client, pytest.raises(Exception):
            client.predict("m", "hello")
        assert len(fake.calls) == 1
    fake = Fake(1, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with Client(serve(fake)) as client, pytest.raises(ResourceExhausted):
        client.undo("m")
    assert len(fake.calls) == 1


def test_the_service_config_names_calls_that_can_be_repeated():
    config = shipped_service_config()
    assert config == json.loads((TREE / "deploy" / "grpc-service-config.json").read_text())
    named = [f"/{n['service']}/{n['method']}" for entry in config["methodConfig"] for n in entry["name"]]
    assert len(named) == len(set(named))
    methods = {method.path: method for method in _methods.ALL}
    identified = {p for p, m in methods.items() if "request_id" in m.request.DESCRIPTOR.fields_by_name}
    assert set(named) <= set(methods)
    # The last entry is that of the calls that change something: they all take a request id, and no other call does.
    assert {f"/{n['service']}/{n['method']}" for n in config["methodConfig"][-1]["name"]} == identified
    assert set(methods) - set(named) == {
        "/taxond.v1.TrainingService/CancelJob",
        "/taxond.v1.TrainingService/Evaluate",
        "/taxond.v1.PredictService/PredictStream",
    }


def test_the_methods_are_those_of_the_protos():
    expected = {}
    for module in (
        _methods.admin,
        _methods.registry,
        _methods.dataset,
        _methods.training,
        _methods.predict,
        _methods.taxonomy,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for m in service.methods:
                kind = {
                    (False, False): _methods.Unary,
                    (False, True): _methods.Streamed,
                    (True, False): _methods.Upload,
                    (True, True): _methods.Duplex,
                }[m.client_streaming, m.server_streaming]
                expected[f"/{service.full_name}/{m.name}"] = (kind, m.input_type.full_name, m.output_type.full_name)
    found = {m.path: (type(m), m.request.DESCRIPTOR.full_name, m.response.DESCRIPTOR.full_name) for m in _methods.ALL}
    assert found == expected


def test_a_restart_is_waited_for(tmp_path, examples, request):
    first = Daemon(tmp_path)
    request.addfinalizer(first.process.kill)
    port = int(first.address.rsplit(":", 1)[1])
    with Client(first.address) as client:
        client.create_model("bank")
        client.add_examples("bank", examples)
        client.train("bank", epochs=1, seed=1).wait()
        run = client.train("bank", epochs=1000)
        events = iter(run)
        seen = [next(events).kind]
        while seen[-1] != "progress":
            seen.append(next(events).kind)
        first.stop(signal.SIGKILL)
        second = Daemon(tmp_path, port)
        request.addfinalizer(second.process.kill)
        assert client.predict("bank", "please block my lost card")
        for event in events:
            seen.append(event.kind)
            if event.job != run.name and event.kind == "planned":
                client.cancel(event.job)
        # The end of the job that was killed, then what happens to the one that does its work again.
        assert seen.count("finished") == 2 and seen[-1] == "finished" and seen.count("planned") == 2
        interrupted, again = client.job(run.name), client.job(client.job(run.name).continued_by)
        assert interrupted.state == JOB_STATE_INTERRUPTED and again.continues == run.name
        with pytest.raises(JobFailed, match=f"{again.name} cancelled"):
            run.wait()
        # A repeat after the restart is told from a second change.
        once = client.merge("bank", [SMALL, LARGE], "取款", learn="none", request_id="merge-1")
        assert (
            client.merge("bank", [SMALL, LARGE], "取款", learn="none", request_id="merge-1").revision == once.revision
        )
        second.stop()
        with Client(first.address, service_config={}) as alone, pytest.raises(Unavailable):
            alone.models()


def test_a_unix_socket_and_who_calls(serve, tmp_path):
    fake = Fake(0, None)
    tokens = iter(["first", "second"])
    path = serve(fake, f"unix:{tmp_path}/taxond.sock")
    with Client(f"unix://{tmp_path}/taxond.sock", user="ann", token=lambda: next(tokens)) as client:
        client.predict("m", "hello")
        client.predict("m", "hello")
    told = [(metadata["authorization"], metadata["taxond-user"]) for _, metadata in fake.calls]
    assert told == [("Bearer first", "ann"), ("Bearer second", "ann")] and path


def test_a_name_that_is_not_ascii_goes_as_bytes(serve):
    fake = Fake(0, None)
    address = serve(fake)
    for user in ("张伟", "Zoë", "ann"):
        with Client(address, user=user) as client:
            client.predict("m", "hello")
    told = [(metadata.get("taxond-user"), metadata.get("taxond-user-bin")) for _, metadata in fake.calls]
    assert told == [(None, "张伟".encode()), (None, "Zoë".encode()), ("ann", None)]


def test_tls_with_a_client_certificate(serve, certificates):
    ca, cert, key = (certificates / name for name in ("ca.pem", "server.pem", "server.key"))
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], ca.read_bytes(), require_client_auth=True
    )
    fake = Fake(0, None)
    address = serve(fake, credentials=credentials)
    mine = Tls(ca, certificates / "client.pem", (certificates / "client.key").read_bytes())
    with Client(f"https://{address}", tls=mine, token="secret") as client:
        assert client.predict("m", "hello") == "yes"
    assert fake.calls[0][1]["authorization"] == "Bearer secret"
    with Client(address, tls=Tls(ca), service_config={}) as anonymous, pytest.raises(Unavailable):
        anonymous.predict("m", "hello")
    with Client(address, tls=Tls(ca, server_name="other.example"), service_config={}) as wrong:
        with pytest.raises(Unavailable):
            wrong.predict("m", "hello")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and certificates of a server and of a client, by openssl."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=folder)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "subjectAltName=DNS:ann")):
        signed = ["-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}", "-addext", extension]
        openssl(
            *new,
            *signed,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    return folder


def test_sync_is_made_of_aio():
    script = TREE / "clients" / "python" / "tools" / "unasync.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
