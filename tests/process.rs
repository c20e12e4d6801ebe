//! The daemon as a process: what signals do to it, and what it tells a service manager.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use support::{BANK, Daemon, long_train_request};
use taxond::proto::v1::{
    self, job_event::Event, registry_service_client::RegistryServiceClient,
    training_service_client::TrainingServiceClient,
};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// `taxond serve` as a process.
struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Process {
    /// Starts it with a configuration file and waits until it serves.
    fn start(config: &Path, notify: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(config);
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify);
        }
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the standard output is text");
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        Self { child, stdout, address }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill is there").success(), "{name}");
    }

    /// The next line of the log that holds a text.
    fn log_until(&mut self, part: &str) -> String {
        let stderr = self.child.stderr.as_mut().expect("it is piped");
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            assert_eq!(stderr.read(&mut byte).expect("it is readable"), 1, "the log ended without {part}");
            if byte != *b"\n" {
                line.push(byte[0]);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if text.contains(part) {
                return text;
            }
            line.clear();
        }
    }

    fn end(mut self) -> Option<i32> {
        // What is left of the log, so that nothing waits for a reader.
        let (mut log, mut rest) = (Vec::new(), String::new());
        self.child.stderr.take().expect("it is piped").read_to_end(&mut log).expect("it is readable");
        self.stdout.read_to_string(&mut rest).expect("the standard output is text");
        self.child.wait().expect("it ends").code()
    }

    async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect().await.expect("it serves")
    }
}

fn config(folder: &Path, more: &str) -> std::path::PathBuf {
    let file = folder.join("taxond.toml");
    let data_dir = folder.join("data");
    let text = format!("data_dir = {:?}\ndevice = 'cpu'\n{more}", data_dir.display().to_string());
    fs::write(&file, text).expect("the folder can be written to");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_and_a_stream_end_in_order_and_the_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::with_examples(&dir.path().join("data")).await.stop().await;
    let notify = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let hear = || {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let process = Process::start(&config(dir.path(), "drain_seconds = 60.0"), Some(&notify));
    assert_eq!(hear(), "READY=1");
    let mut training = TrainingServiceClient::new(process.connect().await);
    let mut events = training.train(long_train_request()).await.unwrap().into_inner();
    let job = events.message().await.unwrap().unwrap().event.unwrap().job;
    process.signal("TERM");
    assert_eq!(hear(), "STOPPING=1");
    let mut last = None;
    while let Some(response) = events.message().await.unwrap() {
        last = response.event.and_then(|event| event.event);
    }
    let Some(Event::Finished(finished)) = last else { panic!("the stream ended with {last:?}") };
    assert_eq!(finished.job.unwrap().state(), v1::JobState::Interrupted);
    drop((events, training));
    assert_eq!(process.end(), Some(0));

    let mut daemon = Daemon::start(&dir.path().join("data")).await;
    let job = daemon.job(&job).await;
    assert_eq!((job.state(), job.model.as_str()), (v1::JobState::Interrupted, BANK));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(&config(dir.path(), "drain_seconds = 3600.0"), None);
    // Who watches the health is told of the stop, and the call stays open.
    let mut health = HealthClient::new(process.connect().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watched.message().await.unwrap();
    process.signal("TERM");
    process.log_until("draining");
    process.signal("TERM");
    assert_eq!(process.end(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_takes_the_log_level_and_names_what_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), "threads = 1\nlog = 'info'");
    let mut process = Process::start(&file, None);
    config(dir.path(), "threads = 2\nlog = 'debug'");
    process.signal("HUP");
    let told = process.log_until("restart");
    assert!(told.contains("threads") && !told.contains("listen"), "{told}");
    config(dir.path(), "threads = 'many'");
    process.signal("HUP");
    // Whatever the cause holds, it stays one line.
    let told = process.log_until("stays as it was");
    assert!(told.contains("threads = 'many'"), "{told}");
    // It still serves, and says more than before.
    drop(process.connect().await);
    process.log_until("DEBUG");
    process.signal("TERM");
    assert_eq!(process.end(), Some(0));
}

#[test]
fn a_configuration_is_shown_with_where_it_comes_from_and_checked_with_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), "threads = 3\npredict_queue = 9\nlog = 'warn'");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.args(["--json", "config"]).args(arguments).arg("--config").arg(&file);
        let output = command.env("TAXOND_PREDICT_QUEUE", "8").output().expect("the program runs");
        let text = if output.status.success() { output.stdout } else { output.stderr };
        let shown: serde_json::Value = serde_json::from_slice(&text).expect("it prints JSON");
        (output.status.code(), shown)
    };
    let (code, shown) = run(&["show", "--threads", "2"]);
    assert_eq!(code, Some(0), "{shown}");
    for (name, value, source) in [
        ("threads", "2", "flag"),
        ("predict_queue", "8", "environment"),
        ("log", "\"warn\"", "file"),
        ("drain_seconds", "10.0", "default"),
    ] {
        assert_eq!(shown[name], serde_json::json!({"value": value, "source": source}), "{name}");
    }
    assert!(shown["tls_cert"]["value"].is_null());
    assert_eq!(run(&["check"]), (Some(0), serde_json::json!({"sound": true})));
    let (code, error) = run(&["check", "--auth-file", "/not/there"]);
    assert!(code == Some(3) && error.to_string().contains("/not/there"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_fifo_in_place_of_a_file_is_named_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = config(dir.path(), "");
    let serve = |arguments: &[&str]| {
        // A start that waited for the fifo would be ended by nothing but this.
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60", env!("CARGO_BIN_EXE_taxond")]);
        let output = command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).output();
        let output = output.expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = |path: &Path| path.display().to_string();
    // The folder is as a daemon leaves it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Daemon::start(&data).await.stop().await });
    for name in ["lock", "format", "high-water", "db/db", "db/conf"] {
        let (at, away) = (data.join(name), dir.path().join("away"));
        fs::rename(&at, &away).unwrap();
        assert!(Command::new("mkfifo").arg(&at).status().unwrap().success());
        let (code, log) = serve(&["--config", &path(&file)]);
        assert!(
            code == Some(1) && log.contains(&path(&at)) && log.contains("a fifo"),
            "{name}: {code:?} {log}"
        );
        fs::rename(&away, &at).unwrap();
    }
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (file, fifo) = (path(&file), path(&fifo));
    for arguments in [
        vec!["--config", &fifo],
        vec!["--config", &file, "--auth-file", &fifo],
        vec!["--config", &file, "--tls-cert", &fifo, "--tls-key", &fifo],
    ] {
        let (code, log) = serve(&arguments);
        assert!(code.is_some_and(|code| code > 0) && log.contains("a fifo"), "{arguments:?}: {code:?} {log}");
        assert!(log.contains(&fifo), "{log}");
    }
    runtime.block_on(async { Daemon::start(&data).await.stop().await });
}

/// Where a data folder goes while a daemon has it open, and the path that the daemon then names.
type Harm = (fn(&Path), &'static str);

const HARMS: [Harm; 7] = [
    (|data| fs::remove_dir_all(data).unwrap(), ""),
    (|data| fs::rename(data, data.with_extension("away")).unwrap(), ""),
    (
        |data| {
            fs::rename(data, data.with_extension("away")).unwrap();
            fs::create_dir(data).unwrap();
        },
        "",
    ),
    (|data| fs::remove_file(data.join("db/db")).unwrap(), "db/db"),
    (|data| fs::remove_file(data.join("format")).unwrap(), "format"),
    (|data| fs::remove_file(data.join("high-water")).unwrap(), "high-water"),
    (
        |data| {
            fs::remove_file(data.join("lock")).unwrap();
            fs::write(data.join("lock"), "").unwrap();
        },
        "lock",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_is_lost_ends_acknowledging() {
    for (harm, name) in HARMS {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(&config(dir.path(), ""), None);
        let channel = process.connect().await;
        let mut registry = RegistryServiceClient::new(channel.clone());
        let create = |id: &str| v1::CreateModelRequest {
            model_id: id.into(),
            request_id: format!("create {id}"),
            ..Default::default()
        };
        registry.create_model(create("before")).await.unwrap();
        let data = dir.path().join("data");
        harm(&data);
        let lost = if name.is_empty() { data.clone() } else { data.join(name) };
        // A repeat must not be answered with the receipt of the call that was refused.
        for id in ["after", "after", "other"] {
            let refused = registry.create_model(create(id)).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unavailable, "{name}: {refused}");
            for part in [lost.to_str().unwrap(), " was ", "then restart taxond"] {
                assert!(refused.message().contains(part), "{name}: {refused}");
            }
        }
        let get = v1::GetModelRequest { name: "models/before".into() };
        registry.get_model(get).await.expect("what is there is read on");
        assert_eq!(status_of(&channel, "taxond.v1.RegistryService", false).await, ServingStatus::NotServing);
        assert_eq!(status_of(&channel, "taxond.v1.PredictService", true).await, ServingStatus::Serving);
        process.log_until(&format!("{} was ", lost.display()));
        process.signal("TERM");
        assert_eq!(process.end(), Some(1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_is_lost_shows_without_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(&config(dir.path(), ""), None);
    let channel = process.connect().await;
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    assert_eq!(status_of(&channel, "taxond.v1.DatasetService", false).await, ServingStatus::NotServing);
    process.log_until("the store takes no writes");
    process.signal("TERM");
    assert_eq!(process.end(), Some(1));

    // The stop itself looks as well: here it comes before anything else does.
    let process = Process::start(&config(dir.path(), ""), None);
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    process.signal("TERM");
    assert_eq!(process.end(), Some(1));
}

/// Follows the health of a service until it serves, or does not.
async fn status_of(channel: &Channel, service: &str, serves: bool) -> ServingStatus {
    let mut health = HealthClient::new(channel.clone());
    let request = HealthCheckRequest { service: service.into() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    let follow = async {
        loop {
            let status = watched.message().await.unwrap().expect("it is watched for ever").status();
            if (status == ServingStatus::Serving) == serves {
                return status;
            }
        }
    };
    // What never comes is a failure and no hang.
    tokio::time::timeout(Duration::from_secs(60), follow).await.expect("the health changes")
}
