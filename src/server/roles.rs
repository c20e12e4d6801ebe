//! What it takes to make each call: the one table of all RPCs that the daemon serves. A call that is not in it is not served.

use std::{collections::HashMap, sync::LazyLock};

use crate::{admission::Effort, service::Role};

/// An RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rpc {
    /// Its place in the table.
    pub number: usize,
    /// Its path: service and method.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// Whether it changes something, or hands out everything, and goes into the audit log.
    pub audited: bool,
    /// Whether it is one answer of a network, for which there is room while that is soon.
    pub predicts: bool,
    /// What it is to the daemon, by which it is admitted; none for predictions, which have their queue, and for what is always answered.
    pub effort: Option<Effort>,
}

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody, also who is not known.
    Nothing,
    /// Whoever is known.
    Identity,
    /// Whoever has this role, or a higher one.
    Role(Role),
}

use Needs::{Identity, Nothing};

const PREDICT: Needs = Needs::Role(Role::Predict);
const TRAIN: Needs = Needs::Role(Role::Train);
const ADMIN: Needs = Needs::Role(Role::Admin);
/// Whether a call goes into the audit log.
const READS: bool = false;
const CHANGES: bool = true;
const HANDS_OUT: bool = true;

/// The calls that are one answer of a network.
const PREDICTIONS: [&str; 2] =
    ["/inference.GRPCInferenceService/ModelInfer", "/taxond.v1.PredictService/Predict"];

/// The calls that read all examples of a model, or compute for long.
const HEAVY: [&str; 7] = [
    "/taxond.v1.DatasetService/ListExamples",
    "/taxond.v1.DatasetService/RelabelExamples",
    "/taxond.v1.DatasetService/DeleteExamples",
    "/taxond.v1.DatasetService/GetStats",
    "/taxond.v1.DatasetService/SuggestRelabels",
    "/taxond.v1.TaxonomyService/SuggestMerges",
    "/taxond.v1.TaxonomyService/SuggestSplits",
];

/// The calls that are to answer at once and may read all examples of a model for that.
const MODEL_CHANGES: [&str; 6] = [
    "/taxond.v1.TaxonomyService/MergeClasses",
    "/taxond.v1.TaxonomyService/SplitClass",
    "/taxond.v1.TaxonomyService/AddClasses",
    "/taxond.v1.TaxonomyService/RemoveClasses",
    "/taxond.v1.TaxonomyService/ApplyChanges",
    "/taxond.v1.TrainingService/Train",
];

/// The calls that take in or hand out much.
const TRANSFERS: [&str; 5] = [
    "/taxond.v1.AdminService/Backup",
    "/taxond.v1.DatasetService/AddExamples",
    "/taxond.v1.RegistryService/ExportVersion",
    "/taxond.v1.RegistryService/ImportVersion",
    "/taxond.v1.TrainingService/Evaluate",
];

/// A stream of predictions, which waits for its turn in their queue.
const PREDICT_STREAM: &str = "/taxond.v1.PredictService/PredictStream";

#[rustfmt::skip]
const TABLE: &[(&str, Needs, bool)] = &[
    ("/grpc.health.v1.Health/Check", Nothing, READS),
    ("/grpc.health.v1.Health/List", Nothing, READS),
    ("/grpc.health.v1.Health/Watch", Nothing, READS),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Identity, READS),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Identity, READS),
    ("/inference.GRPCInferenceService/ServerLive", Nothing, READS),
    ("/inference.GRPCInferenceService/ServerReady", Nothing, READS),
    ("/inference.GRPCInferenceService/ServerMetadata", Identity, READS),
    ("/inference.GRPCInferenceService/ModelReady", PREDICT, READS),
    ("/inference.GRPCInferenceService/ModelMetadata", PREDICT, READS),
    ("/inference.GRPCInferenceService/ModelInfer", PREDICT, READS),
    ("/inference.GRPCInferenceService/RepositoryIndex", PREDICT, READS),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", TRAIN, CHANGES),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", ADMIN, CHANGES),
    ("/taxond.v1.AdminService/Backup", ADMIN, HANDS_OUT),
    ("/taxond.v1.DatasetService/AddExamples", TRAIN, CHANGES),
    ("/taxond.v1.DatasetService/ListExamples", TRAIN, READS),
    ("/taxond.v1.DatasetService/RelabelExamples", TRAIN, CHANGES),
    ("/taxond.v1.DatasetService/DeleteExamples", TRAIN, CHANGES),
    ("/taxond.v1.DatasetService/GetStats", TRAIN, READS),
    ("/taxond.v1.DatasetService/SuggestRelabels", TRAIN, READS),
    ("/taxond.v1.PredictService/Predict", PREDICT, READS),
    ("/taxond.v1.PredictService/PredictStream", PREDICT, READS),
    ("/taxond.v1.RegistryService/CreateModel", ADMIN, CHANGES),
    ("/taxond.v1.RegistryService/GetModel", PREDICT, READS),
    ("/taxond.v1.RegistryService/ListModels", PREDICT, READS),
    ("/taxond.v1.RegistryService/DeleteModel", ADMIN, CHANGES),
    ("/taxond.v1.RegistryService/GetVersion", PREDICT, READS),
    ("/taxond.v1.RegistryService/ListVersions", PREDICT, READS),
    ("/taxond.v1.RegistryService/DeleteVersion", ADMIN, CHANGES),
    ("/taxond.v1.RegistryService/SetAlias", TRAIN, CHANGES),
    ("/taxond.v1.RegistryService/ExportVersion", TRAIN, READS),
    ("/taxond.v1.RegistryService/ImportVersion", ADMIN, CHANGES),
    ("/taxond.v1.TaxonomyService/MergeClasses", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/SplitClass", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/AddClasses", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/RemoveClasses", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/RenameClass", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/MoveClass", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/ApplyChanges", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/UndoChange", TRAIN, CHANGES),
    ("/taxond.v1.TaxonomyService/GetManifest", PREDICT, READS),
    ("/taxond.v1.TaxonomyService/ListManifests", PREDICT, READS),
    ("/taxond.v1.TaxonomyService/GetHistory", TRAIN, READS),
    ("/taxond.v1.TaxonomyService/SuggestMerges", TRAIN, READS),
    ("/taxond.v1.TaxonomyService/SuggestSplits", TRAIN, READS),
    ("/taxond.v1.TrainingService/Train", TRAIN, CHANGES),
    ("/taxond.v1.TrainingService/WatchJob", TRAIN, READS),
    ("/taxond.v1.TrainingService/GetJob", TRAIN, READS),
    ("/taxond.v1.TrainingService/ListJobs", TRAIN, READS),
    ("/taxond.v1.TrainingService/CancelJob", TRAIN, CHANGES),
    ("/taxond.v1.TrainingService/Evaluate", TRAIN, READS),
];

static RPCS: LazyLock<HashMap<&'static str, Rpc>> =
    LazyLock::new(|| rpcs().map(|rpc| (rpc.path, rpc)).collect());

/// All RPCs, in the order of the table.
pub fn rpcs() -> impl Iterator<Item = Rpc> {
    let numbered = TABLE.iter().enumerate();
    numbered.map(|(number, &(path, needs, audited))| {
        let predicts = PREDICTIONS.contains(&path);
        let effort = match path {
            PREDICT_STREAM => None,
            _ if predicts || needs == Nothing => None,
            _ if HEAVY.contains(&path) => Some(Effort::Heavy),
            _ if MODEL_CHANGES.contains(&path) => Some(Effort::Change),
            _ if TRANSFERS.contains(&path) => Some(Effort::Transfer),
            _ => Some(Effort::Short),
        };
        Rpc { number, path, needs, audited, predicts, effort }
    })
}

/// The RPC of a path.
pub(super) fn find(path: &str) -> Option<Rpc> {
    RPCS.get(path).copied()
}

impl Rpc {
    /// The name of the method alone.
    pub fn method(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::proto::{inference, v1};

    #[test]
    fn every_rpc_of_the_protos_has_its_row_and_every_row_its_rpc() {
        let mut served = BTreeSet::new();
        for set in [
            v1::FILE_DESCRIPTOR_SET,
            inference::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                let package = file.package().to_owned();
                for service in file.service {
                    let name = service.name().to_owned();
                    served.extend(
                        service.method.iter().map(|method| format!("/{package}.{name}/{}", method.name())),
                    );
                }
            }
        }
        let rows: BTreeSet<String> = rpcs().map(|rpc| rpc.path.to_owned()).collect();
        assert_eq!(rows.len(), TABLE.len(), "a path stands twice");
        // Newer protos of the health service have List, which may or may not be among those served.
        let list = "/grpc.health.v1.Health/List";
        let without = |mut set: BTreeSet<String>| {
            set.remove(list);
            set
        };
        assert_eq!(without(rows), without(served));
    }

    #[test]
    fn every_call_that_is_no_prediction_is_admitted_by_its_effort() {
        let named =
            HEAVY.iter().chain(&MODEL_CHANGES).chain(&TRANSFERS).chain(&PREDICTIONS).chain([&PREDICT_STREAM]);
        assert!(named.clone().all(|path| find(path).is_some()), "a path that is no call");
        let without: Vec<&str> = rpcs().filter(|rpc| rpc.effort.is_none()).map(|rpc| rpc.method()).collect();
        assert_eq!(
            without,
            ["Check", "List", "Watch", "ServerLive", "ServerReady", "ModelInfer", "Predict", "PredictStream"]
        );
        assert_eq!(find("/taxond.v1.RegistryService/GetModel").unwrap().effort, Some(Effort::Short));
    }

    #[test]
    fn a_path_is_found_whole() {
        assert_eq!(find("/taxond.v1.PredictService/Predict").unwrap().method(), "Predict");
        for path in ["", "/", "/taxond.v1.PredictService", "/taxond.v1.PredictService/Predict/", "Predict"] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
