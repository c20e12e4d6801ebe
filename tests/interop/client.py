"""A client of taxond as a Python program would write it: stubs that protoc made from the protos, over grpcio."""

import contextlib
import itertools

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2
from taxond.v1 import (
    dataset_service_pb2 as dataset,
    dataset_service_pb2_grpc,
    job_pb2 as job,
    manifest_pb2 as manifest,
    predict_service_pb2 as predict,
    predict_service_pb2_grpc,
    registry_service_pb2 as registry,
    registry_service_pb2_grpc,
    taxonomy_service_pb2 as taxonomy,
    taxonomy_service_pb2_grpc,
    training_service_pb2 as training,
    training_service_pb2_grpc,
)

# A call that has not ended by then never will: tests fail instead of hanging.
DEADLINE_SECONDS = 120


class Client:
    """One channel and the stubs on it."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        deadline = grpc.intercept_channel(self.channel, _Deadline())
        self.registry = registry_service_pb2_grpc.RegistryServiceStub(deadline)
        self.dataset = dataset_service_pb2_grpc.DatasetServiceStub(deadline)
        self.training = training_service_pb2_grpc.TrainingServiceStub(deadline)
        self.predictions = predict_service_pb2_grpc.PredictServiceStub(deadline)
        self.taxonomy = taxonomy_service_pb2_grpc.TaxonomyServiceStub(deadline)
        self.health = health_pb2_grpc.HealthStub(deadline)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def create(self, model_id):
        """Makes a model and returns its name."""
        request = registry.CreateModelRequest(model_id=model_id)
        return self.registry.CreateModel(request).model.name

    def model(self, name):
        return self.registry.GetModel(registry.GetModelRequest(name=name)).model

    def add(self, model, examples, batch=100):
        """Adds (text, label) pairs, a hundred in each message of the stream."""
        pairs = [dataset.LabelledText(text=text, label=label) for text, label in examples]
        messages = (
            dataset.AddExamplesRequest(model=model, examples=pairs[i : i + batch]) for i in range(0, len(pairs), batch)
        )
        return self.dataset.AddExamples(messages)

    def examples(self, model, **filter):
        """The first thousand stored examples that a filter matches."""
        chosen = dataset.ExampleFilter(**filter)
        return self.dataset.ListExamples(
            dataset.ListExamplesRequest(model=model, filter=chosen, page_size=1000)
        ).examples

    def relabel(self, model, label, filter, **options):
        chosen = dataset.ExampleFilter(**filter)
        request = dataset.RelabelExamplesRequest(model=model, filter=chosen, label=label, **options)
        return self.dataset.RelabelExamples(request)

    def delete_examples(self, model, filter, **options):
        chosen = dataset.ExampleFilter(**filter)
        return self.dataset.DeleteExamples(dataset.DeleteExamplesRequest(model=model, filter=chosen, **options))

    def suggest_relabels(self, model, **options):
        return self.dataset.SuggestRelabels(dataset.SuggestRelabelsRequest(model=model, **options))

    def stats(self, model):
        return self.dataset.GetStats(dataset.GetStatsRequest(model=model))

    def train(self, model, **options):
        """Trains to the end and returns the events."""
        return [r.event for r in self.training.Train(training.TrainRequest(model=model, **options))]

    def job(self, name):
        return self.training.GetJob(training.GetJobRequest(name=name)).job

    def watch(self, name):
        return [r.event for r in self.training.WatchJob(training.WatchJobRequest(name=name))]

    def predict(self, model, texts, top_k=1000, **options):
        """The response to a Predict for all classes."""
        return self.predictions.Predict(predict.PredictRequest(model=model, texts=texts, top_k=top_k, **options))

    def probabilities(self, model, texts, **options):
        """For each text the probability of each class by name."""
        answer = self.predict(model, texts, **options)
        return [{c.name: c.probability for c in p.classes} for p in answer.predictions]

    def merge(self, model, classes, into, **options):
        """Merges to the end and returns the messages."""
        request = taxonomy.MergeClassesRequest(model=model, classes=classes, into=into, **options)
        return list(self.taxonomy.MergeClasses(request))

    def rename(self, model, class_name, new_name, **options):
        request = taxonomy.RenameClassRequest(model=model, class_name=class_name, new_name=new_name, **options)
        return self.taxonomy.RenameClass(request)

    def remove(self, model, classes, **options):
        """Removes to the end and returns the messages."""
        request = taxonomy.RemoveClassesRequest(model=model, classes=classes, **options)
        return list(self.taxonomy.RemoveClasses(request))

    def place(self, model, class_name, parent, **options):
        """Moves a class into a group, or to the top if that is empty."""
        request = taxonomy.MoveClassRequest(model=model, class_name=class_name, parent=parent, **options)
        return self.taxonomy.MoveClass(request)

    def add_classes(self, model, names, **options):
        """Adds classes and returns the messages."""
        request = taxonomy.AddClassesRequest(model=model, names=names, **options)
        return list(self.taxonomy.AddClasses(request))

    def suggest(self, model, limit=0):
        return self.taxonomy.SuggestMerges(taxonomy.SuggestMergesRequest(model=model, limit=limit))

    def suggest_splits(self, model, limit=0):
        return self.taxonomy.SuggestSplits(taxonomy.SuggestSplitsRequest(model=model, limit=limit))

    def undo(self, model):
        return self.taxonomy.UndoChange(taxonomy.UndoChangeRequest(model=model))

    def manifest(self, name):
        return self.taxonomy.GetManifest(taxonomy.GetManifestRequest(name=name)).manifest


class Refusal:
    """What a failed call said: its code, its message, and its details by kind."""

    def __init__(self, error):
        self.code = error.code()
        self.message = error.details()
        status = rpc_status.from_call(error)
        kinds = {
            "violations": (error_details_pb2.BadRequest, lambda d: {v.field: v.description for v in d.field_violations}),
            "resource": (error_details_pb2.ResourceInfo, lambda d: d),
            "precondition": (error_details_pb2.PreconditionFailure, lambda d: list(d.violations)),
            "info": (error_details_pb2.ErrorInfo, lambda d: d),
        }
        for attribute, (kind, convert) in kinds.items():
            value = None
            for detail in status.details if status else []:
                message = kind()
                if detail.Unpack(message):
                    value = convert(message)
            setattr(self, attribute, value)

    def __repr__(self):
        return f"{self.code.name}: {self.message} {self.violations or ''} {self.resource or ''}"


@contextlib.contextmanager
def refused():
    """Expects the calls inside to fail; holds the refusal afterwards."""
    holder = []
    try:
        yield holder
    except grpc.RpcError as error:
        holder.append(Refusal(error))
        return
    raise AssertionError("the call was accepted")


def kinds(events):
    """The kinds of events, runs of the same kind told once."""
    return [kind for kind, _ in itertools.groupby(event.WhichOneof("event") for event in events)]


class _Deadline(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Gives every call a deadline."""

    def _call(self, continuation, details, request):
        return continuation(details._replace(timeout=details.timeout or DEADLINE_SECONDS), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _call
