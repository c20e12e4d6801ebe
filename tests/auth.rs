//! Who may do what, over real sockets: each role against each RPC, models that are out of bounds, and how identities show.

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use support::{
    Daemon,
    raw::{self, with_string},
    tls::{Authority, Secured},
};
use taxond::{
    config::{Config, Settings},
    proto::{
        inference::{
            self, RepositoryIndexRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
        },
        v1,
    },
    server::{self, Needs, rpcs},
    service::Role,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const TOKENS: [(&str, Option<Role>); 4] = [
    ("nobody", None),
    ("predictor", Some(Role::Predict)),
    ("trainer", Some(Role::Train)),
    ("admin", Some(Role::Admin)),
];

/// Entries for the tokens above, and for `shopkeeper`, an admin of the models of a shop.
fn entries() -> String {
    let known = TOKENS.iter().filter_map(|(token, role)| role.map(|role| (*token, role, "")));
    let shopkeeper = [("shopkeeper", Role::Admin, "models = ['shop-*']")];
    known
        .chain(shopkeeper)
        .map(|(token, role, models)| {
            let hash = blake3::hash(token.as_bytes());
            format!("[[token]]\nname = '{token}'\nhash = '{hash}'\nrole = '{role}'\n{models}\n")
        })
        .collect()
}

fn guarded(folder: &Path) -> Settings {
    let auth_file = folder.join("auth.toml");
    fs::write(&auth_file, entries()).expect("the folder can be written to");
    Settings { auth_file: Some(auth_file), ..Settings::default() }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn signed<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().expect("a token is ASCII"));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_make_the_calls_of_its_own_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(dir.path(), guarded(dir.path())).await;
    for rpc in rpcs() {
        for (token, role) in TOKENS {
            let result = raw::call(&daemon.channel, rpc.path, Vec::new(), role.map(|_| token)).await;
            let refusal = result
                .err()
                .filter(|status| matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied));
            let refusal = refusal.map(|status| (status.code(), reason(&status)));
            let expected = match (rpc.needs, role) {
                (Needs::Nothing, _) | (Needs::Identity, Some(_)) => None,
                (_, None) => Some((Code::Unauthenticated, "NO_CREDENTIALS".to_owned())),
                (Needs::Role(needed), Some(role)) if role >= needed => None,
                (Needs::Role(_), Some(_)) => Some((Code::PermissionDenied, "ROLE_TOO_LOW".to_owned())),
            };
            assert_eq!(refusal, expected, "{} as {token}", rpc.path);
        }
    }
    let status = raw::call(&daemon.channel, rpcs().last().unwrap().path, Vec::new(), Some("guess")).await;
    assert_eq!(reason(&status.unwrap_err()), "UNKNOWN_TOKEN");
    daemon.stop().await;
}

/// The number of the field in which the request of each RPC names its model, and whether it does by resource name.
fn model_fields() -> BTreeMap<String, (u32, bool)> {
    let mut fields = BTreeMap::new();
    for set in [v1::FILE_DESCRIPTOR_SET, inference::FILE_DESCRIPTOR_SET] {
        let files = FileDescriptorSet::decode(set).expect("a descriptor set is whole").file;
        let messages: BTreeMap<_, _> = files
            .iter()
            .flat_map(|file| {
                file.message_type.iter().map(|m| (format!(".{}.{}", file.package(), m.name()), m.clone()))
            })
            .collect();
        for file in &files {
            for (service, method) in file.service.iter().flat_map(|s| s.method.iter().map(move |m| (s, m))) {
                let input = &messages[method.input_type()];
                let names = ["model", "name", "model_id", "model_name"];
                let field = names.iter().find_map(|name| input.field.iter().find(|f| f.name() == *name));
                if let Some(field) = field {
                    let by_name = file.package() == "taxond.v1" && field.name() != "model_id";
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    fields.insert(path, (field.number() as u32, by_name));
                }
            }
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_out_of_bounds_is_refused_by_every_call_that_names_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Daemon::start(dir.path()).await;
    for id in ["bank", "shop-mail"] {
        open.create(id).await;
    }
    open.stop().await;
    let daemon = Daemon::start_with(dir.path(), guarded(dir.path())).await;
    let fields = model_fields();
    let mut walked = 0;
    for rpc in rpcs() {
        let Some((field, by_name)) = fields.get(rpc.path) else { continue };
        let refusal = async |id: &str| {
            let name = if *by_name { format!("models/{id}") } else { id.to_owned() };
            let result = raw::call(&daemon.channel, rpc.path, with_string(*field, &name), Some("shopkeeper"));
            result.await.err().map(|status| (status.code(), reason(&status)))
        };
        walked += 1;
        // Jobs have names of their own.
        if matches!(rpc.method(), "GetJob" | "WatchJob" | "CancelJob") {
            continue;
        }
        for id in ["bank", "not-there"] {
            let expected = Some((Code::PermissionDenied, "MODEL_NOT_ALLOWED".to_owned()));
            assert_eq!(refusal(id).await, expected, "{} of {id}", rpc.path);
        }
        let allowed = refusal("shop-mail").await;
        assert!(allowed.is_none_or(|(code, _)| code != Code::PermissionDenied), "{}", rpc.path);
    }
    assert!(walked > 35, "{walked} RPCs name a model");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_leave_out_what_is_out_of_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Daemon::trained(dir.path()).await;
    open.create("shop-mail").await;
    let jobs = open.training.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    open.stop().await;
    let mut daemon = Daemon::start_with(dir.path(), guarded(dir.path())).await;
    let mut models = async |token| {
        let request = signed(token, v1::ListModelsRequest::default());
        let models = daemon.registry.list_models(request).await.unwrap().into_inner().models;
        models.into_iter().map(|model| model.name).collect::<Vec<_>>()
    };
    assert_eq!(models("admin").await, ["models/bank", "models/shop-mail"]);
    assert_eq!(models("shopkeeper").await, ["models/shop-mail"]);
    let mut inference = GrpcInferenceServiceClient::new(daemon.channel.clone());
    let request = signed("shopkeeper", RepositoryIndexRequest::default());
    let index = inference.repository_index(request).await.unwrap().into_inner().models;
    assert!(index.iter().all(|model| model.name == "shop-mail") && !index.is_empty(), "{index:?}");

    let mut list = async |token| {
        let request = signed(token, v1::ListJobsRequest::default());
        daemon.training.list_jobs(request).await.unwrap().into_inner().jobs.len()
    };
    assert_eq!((list("admin").await, list("shopkeeper").await), (1, 0));
    let name = jobs[0].name.clone();
    let job = daemon.training.get_job(signed("shopkeeper", v1::GetJobRequest { name: name.clone() })).await;
    assert_eq!(job.unwrap_err().code(), Code::NotFound);
    let job = daemon.training.cancel_job(signed("shopkeeper", v1::CancelJobRequest { name })).await;
    assert_eq!(job.unwrap_err().code(), Code::NotFound);
    drop(inference);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_probably_meant_is_told_of_models_that_the_caller_may_see() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Daemon::start(dir.path()).await;
    // The nearest of all is out of the shopkeeper's sight, and the nearest in sight is told all the same.
    for id in ["shop-male", "bank", "sh0p-mail"] {
        open.create(id).await;
    }
    open.stop().await;
    let auth = [("admin", "admin", &[][..]), ("shopkeeper", "admin", &["shop-*"][..])];
    let settings = support::identities::settings(dir.path(), &auth);
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let mut walked = 0;
    for (path, (field, by_name)) in &model_fields() {
        let rpc = rpcs().find(|rpc| rpc.path == path.as_str()).unwrap();
        let message = async |id: &str, token: &str| {
            let name = if *by_name { format!("models/{id}") } else { id.to_owned() };
            let result = raw::call(&daemon.channel, rpc.path, with_string(*field, &name), Some(token)).await;
            let status = result.err().filter(|status| status.code() == Code::NotFound)?;
            // The message stands in the details as well, and clients compare the two.
            assert!(String::from_utf8_lossy(status.details()).contains(status.message()), "{status}");
            Some(status.message().to_owned())
        };
        if let Some(of_shopkeeper) = message("shop-mail", "shopkeeper").await
            && of_shopkeeper.contains("models/shop-mail")
        {
            walked += 1;
            assert!(of_shopkeeper.ends_with("did you mean 'models/shop-male'?"), "{path}: {of_shopkeeper}");
            let of_admin = message("shop-mail", "admin").await.unwrap();
            assert!(of_admin.contains("did you mean 'models/sh"), "{path}: {of_admin}");
            let none = message("shop-with-another-name", "shopkeeper").await.unwrap();
            assert!(!none.contains("did you mean"), "{path}: {none}");
        }
    }
    assert!(walked > 20, "{walked} RPCs say that a model was not found");
    let question = v1::PredictStreamRequest {
        model: "models/shop-mail".into(),
        texts: vec!["hello".into()],
        ..Default::default()
    };
    let request = signed("shopkeeper", tokio_stream::once(question));
    let mut answers = daemon.predict.clone().predict_stream(request).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert!(refused.message().ends_with("did you mean 'models/shop-male'?"), "{refused}");
    drop(answers);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_counts_for_open_connections_and_a_wrong_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = guarded(dir.path());
    let file = settings.auth_file.clone().unwrap();
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let list = async |daemon: &Daemon| {
        daemon.running.reload().await;
        let request = signed("trainer", v1::ListModelsRequest::default());
        daemon.registry.clone().list_models(request).await.map(drop).map_err(|status| status.code())
    };
    fs::write(&file, "[[token]]").unwrap();
    assert_eq!(list(&daemon).await, Ok(()));
    fs::write(&file, entries().replace("trainer", "coach")).unwrap();
    assert_eq!(list(&daemon).await, Ok(()), "the name is another one, the hash is not");
    let hash = blake3::hash(b"trainer").to_string();
    fs::write(&file, entries().replace(&hash, &"0".repeat(64))).unwrap();
    assert_eq!(list(&daemon).await, Err(Code::Unauthenticated));
    // Health is told to everybody.
    let mut health = tonic_health::pb::health_client::HealthClient::new(daemon.channel.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    drop(health);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_have_roles() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let dir = tempfile::tempdir().unwrap();
    let auth_file = dir.path().join("auth.toml");
    fs::write(&auth_file, "[[certificate]]\nname = 'reader'\nrole = 'predict'\n").unwrap();
    let settings =
        Settings { auth_file: Some(auth_file), ..Secured::settings(&dir, &ours.server(), Some(&clients)) };
    let running = server::start(Config::new(settings).unwrap()).await.unwrap();
    let daemon = Secured { dir, running };
    let ask = async |name: &str, path: &'static str| {
        let channel = daemon.connect(&ours, Some(&clients.client(name))).await.unwrap();
        raw::call(&channel, path, Vec::new(), None).await.err().map(|status| reason(&status))
    };
    assert_eq!(ask("reader", "/taxond.v1.RegistryService/ListModels").await, None);
    let denied = ask("reader", "/taxond.v1.RegistryService/CreateModel").await;
    assert_eq!(denied.as_deref(), Some("ROLE_TOO_LOW"));
    let unknown = ask("writer", "/taxond.v1.RegistryService/ListModels").await;
    assert_eq!(unknown.as_deref(), Some("UNKNOWN_CERTIFICATE"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_command_line_is_taken_and_kept_as_the_author() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let run = async |arguments: &[&str], address: &str, token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.args(arguments).env("TAXOND_ADDR", address).env("USER", "ada");
        if !token.is_empty() {
            command.env("TAXOND_TOKEN", token);
        }
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr });
        (output.status.code(), text.unwrap())
    };
    let arguments = ["--json", "token", "ci's \"own\"", "--role", "train", "--model", "bank*"];
    let (code, made) = run(&arguments, "", "").await;
    assert_eq!(code, Some(0), "{made}");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let auth_file = dir.path().join("auth.toml");
    fs::write(&auth_file, made["entry"].as_str().unwrap()).unwrap();
    let settings = Settings { auth_file: Some(auth_file), ..Settings::default() };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let address = daemon.running.address.to_string();

    let (code, text) = run(&["models"], &address, "").await;
    assert!(code == Some(1) && text.contains("TAXOND_TOKEN"), "{text}");
    let token = made["token"].as_str().unwrap();
    let (code, text) = run(&["rename", "bank", "balance", "how much"], &address, token).await;
    assert_eq!(code, Some(0), "{text}");
    let (_, history) = run(&["--json", "history", "bank", "--limit", "1"], &address, token).await;
    assert!(history.contains("ada via ci's"), "{history}");
    let file = dir.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let (code, text) = run(&["models", "--token-file", file.to_str().unwrap()], &address, "").await;
    assert_eq!(code, Some(0), "{text}");
    daemon.stop().await;
}
