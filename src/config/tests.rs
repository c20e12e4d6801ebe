use super::*;

fn config(settings: Settings) -> Result<Config> {
    Config::with_home(settings, |name| (name == "HOME").then(|| "/home/ada".into()))
}

fn message(settings: Settings) -> String {
    config(settings).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_holds_every_field_with_its_default() {
    let shipped = include_str!("../../deploy/taxond.toml");
    let commented: String =
        shipped.lines().filter_map(|line| line.strip_prefix("#= ")).map(|line| format!("{line}\n")).collect();
    let settings = Settings::from_toml(&commented).unwrap();
    // These defaults depend on the machine, or are nothing; the file shows examples of them.
    let machine = Settings {
        data_dir: settings.data_dir.clone(),
        threads: settings.threads,
        vectors_dir: settings.vectors_dir.clone(),
        unix_socket: settings.unix_socket.clone(),
        tls_cert: settings.tls_cert.clone(),
        tls_key: settings.tls_key.clone(),
        tls_client_ca: settings.tls_client_ca.clone(),
        auth_file: settings.auth_file.clone(),
        metrics_listen: settings.metrics_listen.clone(),
        otlp_endpoint: settings.otlp_endpoint.clone(),
        training_memory_limit: settings.training_memory_limit,
        min_free_bytes: settings.min_free_bytes,
        heavy_call_bytes: settings.heavy_call_bytes,
        ..Settings::default()
    };
    assert!(machine.data_dir.is_some() && machine.threads.is_some());
    assert!(machine.vectors_dir.is_some() && machine.training_memory_limit.is_some());
    assert_eq!(config(settings).unwrap(), config(machine).unwrap());

    let fields = format!("{:?}", Settings::default());
    assert_eq!(commented.lines().count(), fields.matches("None").count(), "a field is missing: {fields}");
    assert_eq!(
        Settings::from_toml(shipped).unwrap(),
        Settings::default(),
        "the file changes nothing as shipped"
    );
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = Settings::from_toml("threads = 3\npredict_queue = 9").unwrap();
    let flags = Settings { threads: Some(2), ..Settings::default() };
    let config = config(flags.or(file)).unwrap();
    assert_eq!((config.threads, config.predict_queue, config.drain.as_secs()), (2, 9, 10));
}

#[test]
fn a_crowd_that_stands_is_borne_no_longer_than_a_queue_unless_that_is_wished() {
    let standing = |toml: &str| {
        config(Settings::from_toml(toml).unwrap()).unwrap().predict_standing_time.map(|time| time.as_millis())
    };
    assert_eq!(standing(""), Some(12));
    assert_eq!(standing("predict_queue_millis = 5"), Some(5));
    assert_eq!(standing("predict_queue_millis = 0"), None);
    assert_eq!(standing("predict_queue_millis = 5\npredict_standing_millis = 9"), Some(9));
}

#[test]
fn mistakes_in_the_file_name_the_key() {
    for (text, part) in [
        ("thread = 3", "unknown field `thread`"),
        ("threads = 'many'", "threads"),
        ("log_format = 'xml'", "xml"),
        ("listen = ", "line 1"),
    ] {
        let what = Settings::from_toml(text).unwrap_err();
        assert!(what.contains(part), "{what}");
    }
    let error = Settings::from_file(Path::new("nowhere/taxond.toml")).unwrap_err().to_string();
    assert!(error.contains("nowhere/taxond.toml"), "{error}");
}

#[test]
fn nonsense_is_refused_by_field_and_value() {
    let none = Settings::default;
    for (settings, field, value) in [
        (Settings { device: Some("gpu".into()), ..none() }, "device", "'gpu'"),
        (Settings { threads: Some(0), ..none() }, "threads", "got 0"),
        (Settings { predict_queue: Some(0), ..none() }, "predict_queue", "got 0"),
        (Settings { cache_bytes: Some(5), ..none() }, "cache_bytes", "got 5"),
        (Settings { model_cache_bytes: Some(7), ..none() }, "model_cache_bytes", "got 7"),
        (Settings { training_niceness: Some(20), ..none() }, "training_niceness", "got 20"),
        (Settings { training_memory_limit: Some(6), ..none() }, "training_memory_limit", "got 6"),
        (Settings { gate_accuracy: Some(-0.1), ..none() }, "gate_accuracy", "got -0.1"),
        (Settings { gate_class_f1: Some(2.0), ..none() }, "gate_class_f1", "got 2"),
        (Settings { min_free_bytes: Some(u64::MAX), ..none() }, "min_free_bytes", "got 18446744073709551615"),
        (Settings { max_heavy_calls: Some(0), ..none() }, "max_heavy_calls", "got 0"),
        (Settings { heavy_call_bytes: Some(9), ..none() }, "heavy_call_bytes", "got 9"),
        (Settings { keep_days: Some(-1.0), ..none() }, "keep_days", "got -1"),
        (Settings { scrub_hours: Some(f64::INFINITY), ..none() }, "scrub_hours", "got inf"),
        (Settings { drain_seconds: Some(f64::NAN), ..none() }, "drain_seconds", "got NaN"),
        (Settings { drain_seconds: Some(-1.0), ..none() }, "drain_seconds", "got -1"),
        (Settings { log: Some("info,=".into()), ..none() }, "log", "'info,='"),
    ] {
        let message = message(settings);
        assert!(message.starts_with(field) && message.contains(value), "{message}");
    }
}

#[test]
fn a_training_may_take_half_of_the_memory() {
    let limit = config(Settings::default()).unwrap().training_memory_limit;
    assert!(limit == memory() / 2 && limit >= 16 * MIB, "{limit}");
    assert!(memory() < MAX_MEMORY, "this system tells its memory");
}

#[test]
fn the_data_folder_follows_the_base_directories() {
    let at = |variables: &[(&str, &str)]| {
        Config::with_home(Settings::default(), |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
        .map(|config| config.data_dir)
    };
    assert_eq!(at(&[("HOME", "/home/ada")]).unwrap(), Path::new("/home/ada/.local/share/taxond"));
    assert_eq!(at(&[("HOME", "/home/ada"), ("XDG_DATA_HOME", "/data")]).unwrap(), Path::new("/data/taxond"));
    assert_eq!(
        at(&[("HOME", "/h"), ("XDG_DATA_HOME", "data")]).unwrap(),
        Path::new("/h/.local/share/taxond")
    );
    assert!(at(&[]).unwrap_err().to_string().contains("data_dir"));
}
