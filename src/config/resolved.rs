//! A checked configuration as settings again: to show it, and to tell what changed.

use std::time::Duration;

use super::{Config, Network, Settings};

/// A time that may be absent, as a number that is 0 then.
fn millis(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| time.as_millis() as u64)
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64())
}

impl Config {
    /// Every setting with the value that holds; what is off stays absent.
    pub fn resolved(&self) -> Settings {
        let Network {
            listen,
            unix,
            tls,
            max_connections,
            max_connections_per_peer,
            first_call,
            idle,
            rate_limit,
            metrics_listen,
        } = &self.network;
        let (unix, tls) = (unix.as_ref(), tls.as_ref());
        Settings {
            listen: Some(listen.map_or_else(|| "none".to_owned(), |address| address.to_string())),
            unix_socket: unix.map(|unix| unix.path.clone()),
            unix_allow_uids: Some(unix.map(|unix| unix.allow_uids.clone()).unwrap_or_default()),
            unix_allow_gids: Some(unix.map(|unix| unix.allow_gids.clone()).unwrap_or_default()),
            tls_cert: tls.map(|tls| tls.cert.clone()),
            tls_key: tls.map(|tls| tls.key.clone()),
            tls_client_ca: tls.and_then(|tls| tls.client_ca.clone()),
            auth_file: self.auth_file.clone(),
            max_connections: Some(*max_connections),
            max_connections_per_peer: Some(*max_connections_per_peer),
            first_call_seconds: Some(seconds(*first_call)),
            idle_seconds: Some(seconds(*idle)),
            rate_limit: Some(rate_limit.unwrap_or(0)),
            metrics_listen: metrics_listen.map(|address| address.to_string()),
            data_dir: Some(self.data_dir.clone()),
            device: Some(self.device.to_string()),
            tf32: Some(self.tf32),
            threads: Some(self.threads),
            predict_queue: Some(self.predict_queue),
            predict_queue_millis: Some(millis(self.predict_queue_time)),
            predict_standing_millis: Some(millis(self.predict_standing_time)),
            predict_weights: Some(self.predict_weights.to_string()),
            cache_bytes: Some(self.cache_bytes),
            feature_cache_bytes: Some(self.feature_cache_bytes),
            model_cache_bytes: Some(self.model_cache_bytes),
            pin: Some(self.pin.clone()),
            training_niceness: Some(self.training_niceness),
            drain_seconds: Some(self.drain.as_secs_f64()),
            log: Some(self.log.clone()),
            log_format: Some(self.log_format),
            otlp_endpoint: self.traces.as_ref().map(|traces| traces.endpoint.clone()),
            otlp_share: Some(self.traces.as_ref().map_or(1.0, |traces| traces.share)),
            insecure: Some(self.insecure),
            vectors_dir: self.vectors_dir.clone(),
            training_memory_limit: Some(self.training_memory_limit),
            gate_accuracy: Some(self.gate_accuracy),
            gate_class_f1: Some(self.gate_class_f1),
            max_models: Some(self.max_models),
            max_classes: Some(self.max_classes),
            max_examples: Some(self.max_examples),
            max_heavy_calls: Some(self.max_heavy_calls),
            heavy_call_bytes: Some(self.heavy_call_bytes),
            min_free_bytes: self.min_free_bytes,
            keep_versions: Some(self.keep_versions),
            keep_days: Some(self.keep_days),
            keep_bytes: Some(self.keep_bytes),
            scrub_hours: Some(self.scrub_hours),
        }
    }

    /// Names of the settings that have another value in `other`.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let (now, then) = (self.resolved().values(), other.resolved().values());
        now.into_iter().zip(then).filter(|(now, then)| now != then).map(|((name, _), _)| name).collect()
    }
}

/// The values of settings by name, in TOML; none of those that are absent. Takes the names of all fields, so that none can be
/// forgotten.
macro_rules! values {
    ($settings:expr; $($field:ident),* $(,)?) => {{
        let Settings { $($field),* } = $settings;
        vec![$((
            stringify!($field),
            $field.as_ref().and_then(|value| toml::Value::try_from(value).ok()).map(|value| value.to_string()),
        )),*]
    }};
}

impl Settings {
    /// Every setting by name, with its value in TOML if it has one.
    pub fn values(&self) -> Vec<(&'static str, Option<String>)> {
        values!(self;
            listen, unix_socket, unix_allow_uids, unix_allow_gids, tls_cert, tls_key, tls_client_ca, auth_file,
            max_connections, max_connections_per_peer, first_call_seconds, idle_seconds, rate_limit, metrics_listen, insecure, data_dir, device, tf32, threads, predict_queue,
            predict_queue_millis, predict_standing_millis, predict_weights,
            cache_bytes, feature_cache_bytes, model_cache_bytes, pin, training_niceness, drain_seconds, log,
            log_format, otlp_endpoint, otlp_share, vectors_dir, training_memory_limit, gate_accuracy, gate_class_f1, max_models, max_classes,
            max_examples, max_heavy_calls, heavy_call_bytes, min_free_bytes,
            keep_versions, keep_days, keep_bytes, scrub_hours,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_makes_the_same_configuration() {
        let given = Settings {
            listen: Some("none".into()),
            unix_socket: Some("/run/taxond.sock".into()),
            unix_allow_uids: Some(vec![7]),
            rate_limit: Some(3),
            pin: Some(vec!["bank".into()]),
            data_dir: Some("/data".into()),
            ..Settings::default()
        };
        let config = Config::new(given).unwrap();
        let shown = config.resolved().values();
        let lines = shown.iter().filter_map(|(name, value)| Some(format!("{name} = {}\n", value.as_ref()?)));
        let again = Config::new(Settings::from_toml(&lines.collect::<String>()).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn what_changed_is_named() {
        let config = |log: &str, threads| {
            let (log, threads) = (Some(log.to_owned()), Some(threads));
            Config::new(Settings { log, threads, data_dir: Some("/d".into()), ..Settings::default() })
                .unwrap()
        };
        assert!(config("info", 1).changed(&config("info", 1)).is_empty());
        assert_eq!(config("info", 1).changed(&config("debug", 2)), ["threads", "log"]);
    }
}
