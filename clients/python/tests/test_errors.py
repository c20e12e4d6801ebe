"""A call that fails says why."""

import datetime

import grpc
import pytest
from conftest import SMALL
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from taxond import (
    Aborted,
    AlreadyExists,
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TaxondError,
    Tls,
    Unavailable,
)
from taxond.address import connection
from taxond.errors import from_call


def test_a_missing_model_is_named(client):
    with pytest.raises(NotFound) as failed:
        client.predict("nowhere", "hello")
    error = failed.value
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert (error.resource.type, error.resource.name) == ("taxond.v1/Model", "models/nowhere")
    assert str(error) == "NOT_FOUND: model 'models/nowhere' not found"


def test_fields_that_are_wrong_are_named(client, bank):
    with pytest.raises(InvalidArgument) as failed:
        client.predict(bank, ["fine", " "])
    [violation] = failed.value.violations
    assert violation.field == "texts[1]" and "blank" in violation.description
    with pytest.raises(InvalidArgument) as failed:
        client.predict(bank, [" "] * 200)
    assert failed.value.violations[0].field == "texts[0]"
    with pytest.raises(InvalidArgument) as failed:
        client.add_examples(bank, [("fine", "a"), ("", "a")])
    assert failed.value.violations[0].field == "examples[1].text"


def test_codes_have_their_classes(client, bank):
    with pytest.raises(AlreadyExists):
        client.create_model(bank)
    with pytest.raises(Aborted):
        client.rename(bank, "balance", "account", expected_revision=99)
    with pytest.raises(FailedPrecondition):
        client.undo(bank)
    with pytest.raises(NotFound) as failed:
        client.merge(bank, [SMALL, "balanse"], into="x")
    assert failed.value.metadata["suggestion"] == "balance"
    with pytest.raises(TypeError, match="one string"):
        client.remove(bank, "balance")


def test_the_time_to_try_again_is_told():
    details = [
        error_details_pb2.ErrorInfo(reason="QUEUE_FULL"),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000)),
    ]
    packed = status_pb2.Status(code=8)
    for detail in details:
        packed.details.add().Pack(detail)

    class Full(grpc.RpcError):
        code = staticmethod(lambda: grpc.StatusCode.RESOURCE_EXHAUSTED)
        details = staticmethod(lambda: "full")
        trailing_metadata = staticmethod(lambda: (("grpc-status-details-bin", packed.SerializeToString()),))

    error = from_call(Full())
    assert isinstance(error, ResourceExhausted) and isinstance(error, TaxondError)
    assert (error.reason, error.retry_after) == ("QUEUE_FULL", datetime.timedelta(milliseconds=250))


def test_a_daemon_that_is_not_there_is_unavailable():
    with Client("127.0.0.1:1", service_config={}) as nobody, pytest.raises(Unavailable):
        nobody.models()


def test_addresses_and_tokens_are_checked():
    with pytest.raises(ValueError, match="ftp://x"):
        Client("ftp://x")
    with pytest.raises(ValueError, match="in the clear"):
        Client("10.0.0.1:50061", token="secret")
    with pytest.raises(ValueError, match="https"):
        Client("http://10.0.0.1:50061", tls=True)
    with pytest.raises(ValueError, match="go together"):
        Client("10.0.0.1:50061", tls=Tls(certificate=b"x"))
    Client("https://10.0.0.1:50061", token="secret").close()
    Client("unix:///nowhere.sock", token="secret").close()
    # The path of a socket is no name of a host, which an HTTP/2 server may insist on.
    options = connection("unix:///nowhere.sock", None, None, None, {}, ()).options
    assert dict(options)["grpc.default_authority"] == "localhost"
