//! Configuration of the daemon: defaults < file < environment < flags, then checked as a whole.
//!
//! A file and the command line fill the same [`Settings`]; what neither names takes its default. The daemon refuses to
//! start on a value that makes no sense, and says which.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod network;
mod resolved;
mod traces;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use network::{Network, Tls, UnixSocket};
pub use traces::Traces;

use crate::{
    error::{Error, Result},
    file,
    model::{AnswerWeights, DeviceChoice},
};

const DEFAULT_PREDICT_QUEUE: usize = 1024;
const DEFAULT_PREDICT_QUEUE_MILLIS: u64 = 250;
const DEFAULT_PREDICT_STANDING_MILLIS: u64 = 12;
const DEFAULT_CACHE_BYTES: u64 = 64 * MIB;
const DEFAULT_FEATURE_CACHE_BYTES: u64 = 256 * MIB;
const DEFAULT_MODEL_CACHE_BYTES: u64 = 1024 * MIB;
const DEFAULT_TRAINING_NICENESS: u8 = 19;
const DEFAULT_DRAIN_SECONDS: f64 = 10.0;
const DEFAULT_GATE_CLASS_F1: f64 = 0.1;
const DEFAULT_MAX_MODELS: usize = 10_000;
const DEFAULT_MAX_CLASSES: usize = 10_000;
/// Also the most: their fingerprints are in memory while some are added.
const DEFAULT_MAX_EXAMPLES: u64 = 1_000_000;
const DEFAULT_MAX_HEAVY_CALLS: usize = 32;
const DEFAULT_KEEP_VERSIONS: usize = 50;
const DEFAULT_SCRUB_HOURS: f64 = 24.0;
const DEFAULT_LOG: &str = "info";

const MIB: u64 = 1024 * 1024;
/// A hundred years, which every clock can add.
const MAX_DAYS: f64 = 36_525.0;
const MAX_MEMORY: u64 = 64 * 1024 * 1024 * MIB;

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How it is reached.
    pub network: Network,
    /// File of who may call what. Default: none, and nobody is asked who they are.
    pub auth_file: Option<PathBuf>,
    /// Folder of the store, made if it is not there. Default `$XDG_DATA_HOME/taxond`, else `~/.local/share/taxond`.
    pub data_dir: PathBuf,
    /// Where networks learn: `auto`, `cpu` or `cuda:N`. Default `auto`.
    pub device: DeviceChoice,
    /// Whether products on a graphics processor round their operands to TF32. Default no.
    pub tf32: bool,
    /// Threads that compute, 1 to 1024. Default: as many as the machine has cores.
    pub threads: usize,
    /// Texts that may wait for a prediction, 1 to 1,000,000; more are refused. Default 1024.
    pub predict_queue: usize,
    /// Time that what waits before a request of up to 15 texts may take to be computed, else it is refused, and time that
    /// predictions under way may take where they are many; up to an hour, none for any time. Default 250 ms.
    pub predict_queue_time: Option<Duration>,
    /// Time that predictions under way may take where they have been many for longer than a moment; up to an hour, none
    /// for that of the queue. Default 12 ms, or none where that of the queue is.
    pub predict_standing_time: Option<Duration>,
    /// What recurrent weights are rounded to for answers: `auto`, `f32` or `int8`. Default `auto`.
    pub predict_weights: AnswerWeights,
    /// Memory that the store may use as a cache, in bytes, 1 MiB to 1 TiB. Default 64 MiB.
    pub cache_bytes: u64,
    /// Disk that the features of examples may take, in bytes, 0 to 64 TiB; 0 keeps none. Default 256 MiB.
    pub feature_cache_bytes: u64,
    /// Memory for versions that answer, in bytes, 16 MiB to 64 TiB. Default 1 GiB.
    pub model_cache_bytes: u64,
    /// Ids of the models whose serving version is loaded at the start and stays in memory. Default: none.
    pub pin: Vec<String>,
    /// By how much threads that train give way to those that answer, 0 to 19 (Linux). Default 19.
    pub training_niceness: u8,
    /// Time that open calls have to end when the daemon stops, 0 to 3600 seconds. Default 10 seconds.
    pub drain: Duration,
    /// What is logged: a level, or directives such as `info,taxond::train=debug`. Default `info`.
    pub log: String,
    /// How it is logged. Default `pretty`.
    pub log_format: LogFormat,
    /// Where spans go. Default: nowhere.
    pub traces: Option<Traces>,
    /// Whether to listen beyond this machine without encryption. Default false.
    pub insecure: bool,
    /// Folder of the word vectors that models may start from, which must be there. Default: none.
    pub vectors_dir: Option<PathBuf>,
    /// Memory that the trainings in progress may take together, in bytes, 16 MiB to 64 TiB; one that is estimated at more is
    /// refused. Default: half of the memory that the machine, or the control group of the daemon, has.
    pub training_memory_limit: u64,
    /// By how much the validation accuracy of what was learnt may be below that of the version it replaces, 0 to 1. Default
    /// 0.
    pub gate_accuracy: f64,
    /// By how much the F1 of a class that was not to change may fall by what was learnt, 0 to 1; by one or two answers it
    /// always may. Default 0.1.
    pub gate_class_f1: f64,
    /// Models that there may be, 1 to 1,000,000. Default 10,000.
    pub max_models: usize,
    /// Active classes and groups that a model may have, 2 to 1,000,000. Default 10,000.
    pub max_classes: usize,
    /// Examples that a model may have, 1 to 1,000,000. Default 1,000,000.
    pub max_examples: u64,
    /// Calls under way that read all examples of a model or compute for long, and as many uploads and downloads, 1 to 10,000; one
    /// identity has at most half of them. Default 32.
    pub max_heavy_calls: usize,
    /// Memory that calls may take together, in bytes, 1 MiB to 64 TiB; one identity has at most half of it, unless for one call alone.
    /// Default: a quarter of the memory that the machine, or the control group of the daemon, has.
    pub heavy_call_bytes: u64,
    /// Bytes that are to stay free on the disk of the store, 0 to 64 TiB: below that nothing comes in. Default: 256 MiB, or a
    /// tenth of a smaller disk.
    pub min_free_bytes: Option<u64>,
    /// Versions of a model that are kept, the newest; 0 for all. What an alias points to stays in any case, with what that was
    /// made from and what an undo would restore. Default 50.
    pub keep_versions: usize,
    /// Days for which versions are kept, 0 for ever. Default 0.
    pub keep_days: f64,
    /// Bytes of the versions of a model that are kept, 0 without limit. Default 0.
    pub keep_bytes: u64,
    /// Hours after which everything stored is read again to find damage, 0 for never. Default 24.
    pub scrub_hours: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What a configuration file or the command line says; nothing is required.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// TCP address to listen on, or none; port 0 takes a free one [default: 127.0.0.1:50061]
    #[arg(long, env = "TAXOND_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Unix socket to listen on as well [default: none]
    #[arg(long, env = "TAXOND_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Users, by number, that may connect to the socket beside that of the daemon and root [default: none]
    #[arg(long, env = "TAXOND_UNIX_ALLOW_UIDS", value_name = "UID", value_delimiter = ',')]
    pub unix_allow_uids: Option<Vec<u32>>,
    /// Groups, by number, whose members may connect to the socket as well [default: none]
    #[arg(long, env = "TAXOND_UNIX_ALLOW_GIDS", value_name = "GID", value_delimiter = ',')]
    pub unix_allow_gids: Option<Vec<u32>>,
    /// Certificate for TCP, in PEM, with those that lead to its authority [default: none, no encryption]
    #[arg(long, env = "TAXOND_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM [default: none]
    #[arg(long, env = "TAXOND_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities, in PEM, one of which must have signed the certificate of each client over TCP [default: none]
    #[arg(long, env = "TAXOND_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// File (TOML) of who may call what [default: none, nobody is asked who they are]
    #[arg(long, env = "TAXOND_AUTH_FILE", value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
    /// Connections that may be open, over TCP and over the socket each [default: 1024]
    #[arg(long, env = "TAXOND_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Of these, such of one IP address or user as carried no call of somebody who may call [default: half]
    #[arg(long, env = "TAXOND_MAX_CONNECTIONS_PER_PEER", value_name = "N")]
    pub max_connections_per_peer: Option<usize>,
    /// Seconds that a connection may take to its first call before it is closed; 0 for any time [default: 10]
    #[arg(long, env = "TAXOND_FIRST_CALL_SECONDS", value_name = "SECONDS")]
    pub first_call_seconds: Option<f64>,
    /// Seconds after which a connection without a call, or a stream without a message, is closed; 0 for never [default: 3600]
    #[arg(long, env = "TAXOND_IDLE_SECONDS", value_name = "SECONDS")]
    pub idle_seconds: Option<f64>,
    /// Calls a second that each identity may make; 0 limits none [default: 0]
    #[arg(long, env = "TAXOND_RATE_LIMIT", value_name = "CALLS")]
    pub rate_limit: Option<u32>,
    /// Address of an HTTP port for /metrics, /healthz and /readyz [default: none]
    #[arg(long, env = "TAXOND_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Folder of the store [default: $XDG_DATA_HOME/taxond or ~/.local/share/taxond]
    #[arg(long, env = "TAXOND_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where networks learn: auto, cpu or cuda:N [default: auto]
    #[arg(long, env = "TAXOND_DEVICE")]
    pub device: Option<String>,
    /// Round the operands of products on a GPU to TF32: faster for large networks, and less exact [default: false]
    #[arg(long, env = "TAXOND_TF32", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub tf32: Option<bool>,
    /// Threads that compute [default: one for each core]
    #[arg(long, env = "TAXOND_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Texts that may wait for a prediction before calls are refused [default: 1024]
    #[arg(long, env = "TAXOND_PREDICT_QUEUE", value_name = "TEXTS")]
    pub predict_queue: Option<usize>,
    /// Milliseconds that what waits may take until a Predict is refused; 0 for any time [default: 250]
    #[arg(long, env = "TAXOND_PREDICT_QUEUE_MILLIS", value_name = "MILLISECONDS")]
    pub predict_queue_millis: Option<u64>,
    /// The same where there is more than can be answered for longer than a moment; 0 for the same time [default: 12]
    #[arg(long, env = "TAXOND_PREDICT_STANDING_MILLIS", value_name = "MILLISECONDS")]
    pub predict_standing_millis: Option<u64>,
    /// What recurrent weights are rounded to for answers: auto (int8 from 256 units on), f32 or int8 [default: auto]
    #[arg(long, env = "TAXOND_PREDICT_WEIGHTS", value_name = "WEIGHTS")]
    pub predict_weights: Option<String>,
    /// Memory that the store may use as a cache, in bytes [default: 67108864]
    #[arg(long, env = "TAXOND_CACHE_BYTES", value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
    /// Disk that what encoders made of examples may take, in bytes; 0 keeps none [default: 268435456]
    #[arg(long, env = "TAXOND_FEATURE_CACHE_BYTES", value_name = "BYTES")]
    pub feature_cache_bytes: Option<u64>,
    /// Memory for versions that answer, in bytes; the latest used ones stay [default: 1073741824]
    #[arg(long, env = "TAXOND_MODEL_CACHE_BYTES", value_name = "BYTES")]
    pub model_cache_bytes: Option<u64>,
    /// Load the serving version of a model at the start and keep it in memory; may be repeated
    #[arg(long, env = "TAXOND_PIN", value_name = "MODEL", value_delimiter = ',')]
    pub pin: Option<Vec<String>>,
    /// How far training gives way to prediction on the same cores, 0 (not at all) to 19 [default: 19]
    #[arg(long, env = "TAXOND_TRAINING_NICENESS", value_name = "0..19")]
    pub training_niceness: Option<u8>,
    /// Seconds that open calls have to end when the daemon stops [default: 10]
    #[arg(long, env = "TAXOND_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<f64>,
    /// What is logged, for example `info,taxond::train=debug` [default: info]
    #[arg(long, env = "TAXOND_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged [default: pretty]
    #[arg(long, env = "TAXOND_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Collector of OpenTelemetry that spans are sent to over gRPC, http://HOST:PORT [default: none]
    #[arg(long, env = "TAXOND_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces begun here that are sent, 0 to 1 [default: 1]
    #[arg(long, env = "TAXOND_OTLP_SHARE", value_name = "SHARE")]
    pub otlp_share: Option<f64>,
    /// Listen beyond this machine without encryption
    #[arg(long, env = "TAXOND_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// Folder of the word vectors that models may start from [default: none]
    #[arg(long, env = "TAXOND_VECTORS_DIR", value_name = "DIR")]
    pub vectors_dir: Option<PathBuf>,
    /// Memory of all trainings in progress, in bytes [default: half of what the machine or container has]
    #[arg(long, env = "TAXOND_TRAINING_MEMORY_LIMIT", value_name = "BYTES")]
    pub training_memory_limit: Option<u64>,
    /// By how much the validation accuracy may fall by what was learnt, 0 to 1 [default: 0]
    #[arg(long, env = "TAXOND_GATE_ACCURACY", value_name = "SHARE")]
    pub gate_accuracy: Option<f64>,
    /// By how much the F1 of a class that was not to change may fall by what was learnt, 0 to 1 [default: 0.1]
    #[arg(long, env = "TAXOND_GATE_CLASS_F1", value_name = "SHARE")]
    pub gate_class_f1: Option<f64>,
    /// Models that there may be [default: 10000]
    #[arg(long, env = "TAXOND_MAX_MODELS", value_name = "N")]
    pub max_models: Option<usize>,
    /// Classes and groups that a model may have [default: 10000]
    #[arg(long, env = "TAXOND_MAX_CLASSES", value_name = "N")]
    pub max_classes: Option<usize>,
    /// Examples that a model may have [default: 1000000]
    #[arg(long, env = "TAXOND_MAX_EXAMPLES", value_name = "N")]
    pub max_examples: Option<u64>,
    /// Calls that compute or read many examples, and uploads and downloads each, at once [default: 32]
    #[arg(long, env = "TAXOND_MAX_HEAVY_CALLS", value_name = "N")]
    pub max_heavy_calls: Option<usize>,
    /// Memory that such calls may take together, in bytes [default: a quarter of what the machine or container has]
    #[arg(long, env = "TAXOND_HEAVY_CALL_BYTES", value_name = "BYTES")]
    pub heavy_call_bytes: Option<u64>,
    /// Bytes that are to stay free on the disk of the store [default: 256 MiB, or a tenth of a smaller disk]
    #[arg(long, env = "TAXOND_MIN_FREE_BYTES", value_name = "BYTES")]
    pub min_free_bytes: Option<u64>,
    /// Versions of a model that are kept, the newest; 0 for all [default: 50]
    #[arg(long, env = "TAXOND_KEEP_VERSIONS", value_name = "N")]
    pub keep_versions: Option<usize>,
    /// Days for which versions are kept, 0 for ever [default: 0]
    #[arg(long, env = "TAXOND_KEEP_DAYS", value_name = "DAYS")]
    pub keep_days: Option<f64>,
    /// Bytes of the versions of a model that are kept, 0 without limit [default: 0]
    #[arg(long, env = "TAXOND_KEEP_BYTES", value_name = "BYTES")]
    pub keep_bytes: Option<u64>,
    /// Hours after which everything stored is read again to find damage, 0 for never [default: 24]
    #[arg(long, env = "TAXOND_SCRUB_HOURS", value_name = "HOURS")]
    pub scrub_hours: Option<f64>,
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or holds a key or a value that does not exist; the message has the line.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = file::read_to_string(path)
            .map_err(|e| Error::io(format!("cannot read the configuration {}", path.display()), e))?;
        Self::from_toml(&text).map_err(|what| Error::invalid(path.display().to_string(), what))
    }

    fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
    }

    /// Takes what is not set from `base`.
    #[must_use]
    pub fn or(self, base: Self) -> Self {
        Self {
            listen: self.listen.or(base.listen),
            unix_socket: self.unix_socket.or(base.unix_socket),
            unix_allow_uids: self.unix_allow_uids.or(base.unix_allow_uids),
            unix_allow_gids: self.unix_allow_gids.or(base.unix_allow_gids),
            data_dir: self.data_dir.or(base.data_dir),
            tls_cert: self.tls_cert.or(base.tls_cert),
            tls_key: self.tls_key.or(base.tls_key),
            tls_client_ca: self.tls_client_ca.or(base.tls_client_ca),
            auth_file: self.auth_file.or(base.auth_file),
            max_connections: self.max_connections.or(base.max_connections),
            max_connections_per_peer: self.max_connections_per_peer.or(base.max_connections_per_peer),
            first_call_seconds: self.first_call_seconds.or(base.first_call_seconds),
            idle_seconds: self.idle_seconds.or(base.idle_seconds),
            rate_limit: self.rate_limit.or(base.rate_limit),
            metrics_listen: self.metrics_listen.or(base.metrics_listen),
            device: self.device.or(base.device),
            tf32: self.tf32.or(base.tf32),
            threads: self.threads.or(base.threads),
            predict_queue: self.predict_queue.or(base.predict_queue),
            predict_queue_millis: self.predict_queue_millis.or(base.predict_queue_millis),
            predict_standing_millis: self.predict_standing_millis.or(base.predict_standing_millis),
            predict_weights: self.predict_weights.or(base.predict_weights),
            cache_bytes: self.cache_bytes.or(base.cache_bytes),
            feature_cache_bytes: self.feature_cache_bytes.or(base.feature_cache_bytes),
            model_cache_bytes: self.model_cache_bytes.or(base.model_cache_bytes),
            pin: self.pin.or(base.pin),
            training_niceness: self.training_niceness.or(base.training_niceness),
            drain_seconds: self.drain_seconds.or(base.drain_seconds),
            log: self.log.or(base.log),
            log_format: self.log_format.or(base.log_format),
            otlp_endpoint: self.otlp_endpoint.or(base.otlp_endpoint),
            otlp_share: self.otlp_share.or(base.otlp_share),
            insecure: self.insecure.or(base.insecure),
            vectors_dir: self.vectors_dir.or(base.vectors_dir),
            training_memory_limit: self.training_memory_limit.or(base.training_memory_limit),
            gate_accuracy: self.gate_accuracy.or(base.gate_accuracy),
            gate_class_f1: self.gate_class_f1.or(base.gate_class_f1),
            max_models: self.max_models.or(base.max_models),
            max_classes: self.max_classes.or(base.max_classes),
            max_examples: self.max_examples.or(base.max_examples),
            max_heavy_calls: self.max_heavy_calls.or(base.max_heavy_calls),
            heavy_call_bytes: self.heavy_call_bytes.or(base.heavy_call_bytes),
            min_free_bytes: self.min_free_bytes.or(base.min_free_bytes),
            keep_versions: self.keep_versions.or(base.keep_versions),
            keep_days: self.keep_days.or(base.keep_days),
            keep_bytes: self.keep_bytes.or(base.keep_bytes),
            scrub_hours: self.scrub_hours.or(base.scrub_hours),
        }
    }
}

impl Config {
    /// Fills in the defaults and checks the whole.
    ///
    /// # Errors
    /// Each field with a value that makes no sense, by name.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::with_home(settings, |name| env::var_os(name).map(PathBuf::from))
    }

    fn with_home(settings: Settings, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let network = Network::new(&settings)?;
        let traces = Traces::new(&settings)?;
        let device = match settings.device {
            None => DeviceChoice::Auto,
            Some(device) => device.parse().map_err(|what: String| Error::invalid("device", what))?,
        };
        let predict_weights = match settings.predict_weights {
            None => AnswerWeights::default(),
            Some(weights) => {
                weights.parse().map_err(|what: String| Error::invalid("predict_weights", what))?
            }
        };
        let threads =
            settings.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let predict_queue = settings.predict_queue.unwrap_or(DEFAULT_PREDICT_QUEUE);
        let predict_queue_millis = settings.predict_queue_millis.unwrap_or(DEFAULT_PREDICT_QUEUE_MILLIS);
        let cache_bytes = settings.cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES);
        let feature_cache_bytes = settings.feature_cache_bytes.unwrap_or(DEFAULT_FEATURE_CACHE_BYTES);
        within("feature_cache_bytes", feature_cache_bytes, 0, MAX_MEMORY)?;
        let model_cache_bytes = settings.model_cache_bytes.unwrap_or(DEFAULT_MODEL_CACHE_BYTES);
        within("model_cache_bytes", model_cache_bytes, 16 * MIB, MAX_MEMORY)?;
        let training_niceness = settings.training_niceness.unwrap_or(DEFAULT_TRAINING_NICENESS);
        within("training_niceness", training_niceness, 0, 19)?;
        let drain = settings.drain_seconds.unwrap_or(DEFAULT_DRAIN_SECONDS);
        within("threads", threads, 1, 1024)?;
        within("predict_queue", predict_queue, 1, 1_000_000)?;
        let predict_queue_time = optional_millis("predict_queue_millis", predict_queue_millis)?;
        let predict_standing_millis = settings
            .predict_standing_millis
            .unwrap_or_else(|| DEFAULT_PREDICT_STANDING_MILLIS.min(predict_queue_millis));
        let predict_standing_time = optional_millis("predict_standing_millis", predict_standing_millis)?;
        within("cache_bytes", cache_bytes, MIB, 1024 * 1024 * MIB)?;
        within("drain_seconds", drain, 0.0, 3600.0)?;
        let training_memory_limit = settings.training_memory_limit.unwrap_or_else(|| memory() / 2);
        within("training_memory_limit", training_memory_limit, 16 * MIB, MAX_MEMORY)?;
        let gate_accuracy = settings.gate_accuracy.unwrap_or(0.0);
        let gate_class_f1 = settings.gate_class_f1.unwrap_or(DEFAULT_GATE_CLASS_F1);
        within("gate_accuracy", gate_accuracy, 0.0, 1.0)?;
        within("gate_class_f1", gate_class_f1, 0.0, 1.0)?;
        let max_models = settings.max_models.unwrap_or(DEFAULT_MAX_MODELS);
        within("max_models", max_models, 1, 1_000_000)?;
        let max_classes = settings.max_classes.unwrap_or(DEFAULT_MAX_CLASSES);
        within("max_classes", max_classes, 2, 1_000_000)?;
        let max_examples = settings.max_examples.unwrap_or(DEFAULT_MAX_EXAMPLES);
        within("max_examples", max_examples, 1, DEFAULT_MAX_EXAMPLES)?;
        let max_heavy_calls = settings.max_heavy_calls.unwrap_or(DEFAULT_MAX_HEAVY_CALLS);
        within("max_heavy_calls", max_heavy_calls, 1, 10_000)?;
        let heavy_call_bytes = settings.heavy_call_bytes.unwrap_or_else(|| memory() / 4);
        within("heavy_call_bytes", heavy_call_bytes, MIB, MAX_MEMORY)?;
        let min_free_bytes = settings.min_free_bytes;
        min_free_bytes.map_or(Ok(()), |bytes| within("min_free_bytes", bytes, 0, MAX_MEMORY))?;
        let keep_days = settings.keep_days.unwrap_or(0.0);
        within("keep_days", keep_days, 0.0, MAX_DAYS)?;
        let scrub_hours = settings.scrub_hours.unwrap_or(DEFAULT_SCRUB_HOURS);
        within("scrub_hours", scrub_hours, 0.0, 24.0 * MAX_DAYS)?;

        let log = settings.log.unwrap_or_else(|| DEFAULT_LOG.to_owned());
        tracing_subscriber::EnvFilter::try_new(&log)
            .map_err(|e| Error::invalid("log", format!("must be a level or directives, got '{log}': {e}")))?;
        Ok(Self {
            network,
            auth_file: settings.auth_file,
            data_dir: data_dir(settings.data_dir, variable)?,
            device,
            tf32: settings.tf32.unwrap_or(false),
            threads,
            predict_queue,
            predict_queue_time,
            predict_standing_time,
            predict_weights,
            cache_bytes,
            feature_cache_bytes,
            model_cache_bytes,
            pin: settings.pin.unwrap_or_default(),
            training_niceness,
            drain: Duration::from_secs_f64(drain),
            log,
            log_format: settings.log_format.unwrap_or_default(),
            traces,
            insecure: settings.insecure.unwrap_or(false),
            vectors_dir: settings.vectors_dir,
            training_memory_limit,
            gate_accuracy,
            gate_class_f1,
            max_models,
            max_classes,
            max_examples,
            max_heavy_calls,
            heavy_call_bytes,
            min_free_bytes,
            keep_versions: settings.keep_versions.unwrap_or(DEFAULT_KEEP_VERSIONS),
            keep_days,
            keep_bytes: settings.keep_bytes.unwrap_or(0),
            scrub_hours,
        })
    }
}

fn data_dir(given: Option<PathBuf>, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    // The specification of the base directories tells to ignore a relative path in the variable.
    let shared = || variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || variable("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/share"));
    let path = given.or_else(|| shared().or_else(home).map(|path| path.join("taxond")));
    path.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        Error::invalid("data_dir", "is not set, and there is no home folder to derive it from; name a folder")
    })
}

/// Memory that this process may use: the machine's, or what its control group leaves of it; as much as can be where the
/// system does not tell.
fn memory() -> u64 {
    use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

    let (Ok(mut system), Ok(own)) = (System::new(), get_current_pid()) else { return MAX_MEMORY };
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, ProcessRefreshKind::nothing());
    // A container sees its own group as the root, a unit of systemd as a path below it.
    let group = system.process(own).and_then(|process| process.cgroup_limits());
    let limits = group.into_iter().chain(system.cgroup_limits()).map(|limits| limits.total_memory);
    let memory = limits.chain([system.total_memory(), address_space()]).filter(|&bytes| bytes > 0).min();
    memory.unwrap_or(MAX_MEMORY).clamp(32 * MIB, MAX_MEMORY)
}

/// Bytes of memory that `ulimit -v` leaves this process.
#[cfg(target_os = "linux")]
fn address_space() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::As).current.unwrap_or(MAX_MEMORY)
}

/// Bytes of memory that the system leaves this process.
#[cfg(not(target_os = "linux"))]
fn address_space() -> u64 {
    MAX_MEMORY
}

fn within<T: PartialOrd + std::fmt::Display>(field: &str, value: T, low: T, high: T) -> Result<()> {
    // Written so that a NaN is refused.
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Error::invalid(field, format!("must be {low} to {high}, got {value}")))
}

/// A time of up to an hour, of which 0 means none.
fn optional_millis(field: &str, millis: u64) -> Result<Option<Duration>> {
    within(field, millis, 0, 3_600_000)?;
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests;
