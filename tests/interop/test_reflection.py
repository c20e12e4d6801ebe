"""What a client needs that has no protos at hand: reflection in both versions, and health."""

import grpc
import pytest
from client import Refusal
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

SERVICES = {
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
    "taxond.v1.DatasetService",
    "taxond.v1.PredictService",
    "taxond.v1.AdminService",
    "taxond.v1.RegistryService",
    "taxond.v1.TaxonomyService",
    "taxond.v1.TrainingService",
}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_services_are_listed_and_described(client, version):
    # The messages of both versions are the same on the wire.
    method = client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="taxond.v1.TaxonomyService.MergeClasses"),
    ]
    services, file = method(iter(asked), timeout=10)
    names = {service.name for service in services.list_services_response.service}
    assert SERVICES <= names, names
    assert f"grpc.reflection.{version}.ServerReflection" in names
    assert any(b"MergeClassesRequest" in proto for proto in file.file_descriptor_response.file_descriptor_proto)


@pytest.mark.parametrize("service", ["", "taxond.v1.PredictService", "taxond.v1.TrainingService", "inference.GRPCInferenceService"])
def test_health_is_serving(client, service):
    answer = client.health.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.health.Check(health_pb2.HealthCheckRequest(service="taxond.v1.Nothing"))
    assert Refusal(caught.value).code == grpc.StatusCode.NOT_FOUND
