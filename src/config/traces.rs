//! Where spans go.

use super::{Settings, within};
use crate::error::{Error, Result};

/// The collector that takes spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// URL of its gRPC port, `http://host:port`.
    pub endpoint: String,
    /// Share of the traces begun here that are sent, 0 to 1; of a trace that a client began, the client decides.
    pub share: f64,
}

impl Traces {
    /// Checks the settings of traces; none where no collector is named.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>> {
        let share = settings.otlp_share.unwrap_or(1.0);
        within("otlp_share", share, 0.0, 1.0)?;
        let Some(endpoint) = settings.otlp_endpoint.clone() else { return Ok(None) };
        let authority = endpoint.strip_prefix("http://").unwrap_or_default();
        if authority.is_empty() || authority.contains(['/', ' ']) {
            let what = format!(
                "must be http://HOST:PORT, the gRPC port of a collector, got '{endpoint}'; one beside the daemon takes care \
                 of encryption"
            );
            return Err(Error::invalid("otlp_endpoint", what));
        }
        Ok(Some(Self { endpoint, share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(endpoint: &str) -> Result<Option<Traces>> {
        Traces::new(&Settings { otlp_endpoint: Some(endpoint.into()), ..Settings::default() })
    }

    #[test]
    fn a_collector_is_named_by_scheme_host_and_port() {
        assert_eq!(Traces::new(&Settings::default()).unwrap(), None);
        let expected = Traces { endpoint: "http://127.0.0.1:4317".into(), share: 1.0 };
        assert_eq!(traces("http://127.0.0.1:4317").unwrap(), Some(expected));
        for wrong in
            ["127.0.0.1:4317", "https://collector:4317", "http://", "http://collector:4317/v1/traces"]
        {
            let error = traces(wrong).unwrap_err().to_string();
            assert!(error.contains("otlp_endpoint") && error.contains(wrong), "{error}");
        }
        let share = Settings { otlp_share: Some(1.5), ..Settings::default() };
        assert!(Traces::new(&share).unwrap_err().to_string().contains("otlp_share"));
    }
}
