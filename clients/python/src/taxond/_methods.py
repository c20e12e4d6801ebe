"""The RPCs of the API with the types of their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from .v1 import admin_service_pb2 as admin
from .v1 import dataset_service_pb2 as dataset
from .v1 import predict_service_pb2 as predict
from .v1 import registry_service_pb2 as registry
from .v1 import taxonomy_service_pb2 as taxonomy
from .v1 import training_service_pb2 as training

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Q, R]):
    """An RPC."""

    path: str
    """`/taxond.v1.Service/Method`."""
    request: type[Q]
    response: type[R]


class Unary(Method[Q, R]):
    """One message there, one back."""


class Streamed(Method[Q, R]):
    """One message there, many back."""


class Upload(Method[Q, R]):
    """Many messages there, one back."""


class Duplex(Method[Q, R]):
    """Many messages there, many back."""


CREATE_MODEL = Unary(
    "/taxond.v1.RegistryService/CreateModel", registry.CreateModelRequest, registry.CreateModelResponse
)
GET_MODEL = Unary("/taxond.v1.RegistryService/GetModel", registry.GetModelRequest, registry.GetModelResponse)
LIST_MODELS = Unary("/taxond.v1.RegistryService/ListModels", registry.ListModelsRequest, registry.ListModelsResponse)
DELETE_MODEL = Unary(
    "/taxond.v1.RegistryService/DeleteModel", registry.DeleteModelRequest, registry.DeleteModelResponse
)
GET_VERSION = Unary("/taxond.v1.RegistryService/GetVersion", registry.GetVersionRequest, registry.GetVersionResponse)
LIST_VERSIONS = Unary(
    "/taxond.v1.RegistryService/ListVersions", registry.ListVersionsRequest, registry.ListVersionsResponse
)
DELETE_VERSION = Unary(
    "/taxond.v1.RegistryService/DeleteVersion", registry.DeleteVersionRequest, registry.DeleteVersionResponse
)
SET_ALIAS = Unary("/taxond.v1.RegistryService/SetAlias", registry.SetAliasRequest, registry.SetAliasResponse)
EXPORT_VERSION = Streamed(
    "/taxond.v1.RegistryService/ExportVersion", registry.ExportVersionRequest, registry.ExportVersionResponse
)
IMPORT_VERSION = Upload(
    "/taxond.v1.RegistryService/ImportVersion", registry.ImportVersionRequest, registry.ImportVersionResponse
)
ADD_EXAMPLES = Upload("/taxond.v1.DatasetService/AddExamples", dataset.AddExamplesRequest, dataset.AddExamplesResponse)
LIST_EXAMPLES = Unary(
    "/taxond.v1.DatasetService/ListExamples", dataset.ListExamplesRequest, dataset.ListExamplesResponse
)
RELABEL_EXAMPLES = Unary(
    "/taxond.v1.DatasetService/RelabelExamples", dataset.RelabelExamplesRequest, dataset.RelabelExamplesResponse
)
DELETE_EXAMPLES = Unary(
    "/taxond.v1.DatasetService/DeleteExamples", dataset.DeleteExamplesRequest, dataset.DeleteExamplesResponse
)
GET_STATS = Unary("/taxond.v1.DatasetService/GetStats", dataset.GetStatsRequest, dataset.GetStatsResponse)
SUGGEST_RELABELS = Unary(
    "/taxond.v1.DatasetService/SuggestRelabels", dataset.SuggestRelabelsRequest, dataset.SuggestRelabelsResponse
)
TRAIN = Streamed("/taxond.v1.TrainingService/Train", training.TrainRequest, training.TrainResponse)
WATCH_JOB = Streamed("/taxond.v1.TrainingService/WatchJob", training.WatchJobRequest, training.WatchJobResponse)
GET_JOB = Unary("/taxond.v1.TrainingService/GetJob", training.GetJobRequest, training.GetJobResponse)
LIST_JOBS = Unary("/taxond.v1.TrainingService/ListJobs", training.ListJobsRequest, training.ListJobsResponse)
CANCEL_JOB = Unary("/taxond.v1.TrainingService/CancelJob", training.CancelJobRequest, training.CancelJobResponse)
EVALUATE = Upload("/taxond.v1.TrainingService/Evaluate", training.EvaluateRequest, training.EvaluateResponse)
PREDICT = Unary("/taxond.v1.PredictService/Predict", predict.PredictRequest, predict.PredictResponse)
PREDICT_STREAM = Duplex(
    "/taxond.v1.PredictService/PredictStream", predict.PredictStreamRequest, predict.PredictStreamResponse
)
MERGE_CLASSES = Streamed(
    "/taxond.v1.TaxonomyService/MergeClasses", taxonomy.MergeClassesRequest, taxonomy.MergeClassesResponse
)
SPLIT_CLASS = Streamed("/taxond.v1.TaxonomyService/SplitClass", taxonomy.SplitClassRequest, taxonomy.SplitClassResponse)
ADD_CLASSES = Streamed("/taxond.v1.TaxonomyService/AddClasses", taxonomy.AddClassesRequest, taxonomy.AddClassesResponse)
REMOVE_CLASSES = Streamed(
    "/taxond.v1.TaxonomyService/RemoveClasses", taxonomy.RemoveClassesRequest, taxonomy.RemoveClassesResponse
)
RENAME_CLASS = Unary(
    "/taxond.v1.TaxonomyService/RenameClass", taxonomy.RenameClassRequest, taxonomy.RenameClassResponse
)
MOVE_CLASS = Unary("/taxond.v1.TaxonomyService/MoveClass", taxonomy.MoveClassRequest, taxonomy.MoveClassResponse)
APPLY_CHANGES = Streamed(
    "/taxond.v1.TaxonomyService/ApplyChanges", taxonomy.ApplyChangesRequest, taxonomy.ApplyChangesResponse
)
UNDO_CHANGE = Unary("/taxond.v1.TaxonomyService/UndoChange", taxonomy.UndoChangeRequest, taxonomy.UndoChangeResponse)
GET_MANIFEST = Unary(
    "/taxond.v1.TaxonomyService/GetManifest", taxonomy.GetManifestRequest, taxonomy.GetManifestResponse
)
LIST_MANIFESTS = Unary(
    "/taxond.v1.TaxonomyService/ListManifests", taxonomy.ListManifestsRequest, taxonomy.ListManifestsResponse
)
GET_HISTORY = Unary("/taxond.v1.TaxonomyService/GetHistory", taxonomy.GetHistoryRequest, taxonomy.GetHistoryResponse)
SUGGEST_MERGES = Unary(
    "/taxond.v1.TaxonomyService/SuggestMerges", taxonomy.SuggestMergesRequest, taxonomy.SuggestMergesResponse
)
SUGGEST_SPLITS = Unary(
    "/taxond.v1.TaxonomyService/SuggestSplits", taxonomy.SuggestSplitsRequest, taxonomy.SuggestSplitsResponse
)

BACKUP = Streamed("/taxond.v1.AdminService/Backup", admin.BackupRequest, admin.BackupResponse)

ALL: tuple[Method[Any, Any], ...] = tuple(value for value in list(globals().values()) if isinstance(value, Method))
