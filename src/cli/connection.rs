//! One connection to the daemon and the clients of its services.

use std::time::Duration;

use tonic::{
    IntoRequest as _, Request, Status,
    metadata::{AsciiMetadataValue, BinaryMetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    cli::{
        Global, credentials,
        failure::{Exit, Failure},
    },
    proto::v1::{
        admin_service_client::AdminServiceClient, dataset_service_client::DatasetServiceClient,
        predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
        taxonomy_service_client::TaxonomyServiceClient, training_service_client::TrainingServiceClient,
    },
    text::person,
};

/// Patience with the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Patience with a call that neither measures nor learns.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer taken: a page of a thousand manifests with a thousand classes each is far over tonic's 4 MiB.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    signature: Signature,
    timeout: Option<Duration>,
}

impl Connection {
    /// Connects to the daemon that the options name.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        let addr = credentials::address(global);
        let endpoint = Endpoint::from_shared(addr.clone()).map_err(|_| {
            Failure::new(
                Exit::Usage,
                format!("--addr must be a URL such as http://127.0.0.1:50061 or unix:///run/taxond.sock, got '{addr}'"),
            )
        })?;
        // What is no port would be taken for none, and the default one asked.
        let authority = endpoint.uri().authority();
        if let Some(authority) = authority.filter(|a| a.as_str() != a.host() && a.port_u16().is_none()) {
            let message = format!("--addr must have a port of 1 to 65535, got '{authority}'");
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        if let Some(tls) = credentials::tls(global, &addr)? {
            endpoint = endpoint.tls_config(tls).map_err(|e| {
                Failure::new(Exit::Invalid, format!("a certificate cannot be used: {}", root_cause(&e)))
            })?;
        }
        let channel = endpoint.connect().await.map_err(|e| Failure::unreachable(&addr, root_cause(&e)))?;
        let signature = Signature::new(global.user.as_deref(), credentials::authorization(global)?);
        Ok(Self { channel, signature, timeout: global.timeout })
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Signed> {
        AdminServiceClient::new(self.signed())
    }

    pub(crate) fn registry(&self) -> RegistryServiceClient<Signed> {
        RegistryServiceClient::new(self.signed()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn dataset(&self) -> DatasetServiceClient<Signed> {
        DatasetServiceClient::new(self.signed()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn training(&self) -> TrainingServiceClient<Signed> {
        TrainingServiceClient::new(self.signed()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn predict(&self) -> PredictServiceClient<Signed> {
        PredictServiceClient::new(self.signed()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn taxonomy(&self) -> TaxonomyServiceClient<Signed> {
        TaxonomyServiceClient::new(self.signed()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn signed(&self) -> Signed {
        InterceptedService::new(self.channel.clone(), self.signature.clone())
    }

    /// A request that is answered at once, or not at all.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = message.into_request();
        request.set_timeout(self.timeout.unwrap_or(CALL_TIMEOUT));
        request
    }

    /// Puts the limit that the user gave, if any, on a request that may take long.
    pub(crate) fn patient<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }
}

/// A channel whose calls say who makes them.
pub(crate) type Signed = InterceptedService<Channel, Signature>;

/// Says who calls: for the history of what is changed, and the token.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    user: Option<User>,
    authorization: Option<AsciiMetadataValue>,
}

/// The name of a user as it is sent: what is not ASCII goes as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum User {
    Ascii(AsciiMetadataValue),
    Other(BinaryMetadataValue),
}

impl Signature {
    /// The user that was named, else that of the environment, of which a name that the daemon would refuse is left out: it takes
    /// the address instead.
    fn new(named: Option<&str>, authorization: Option<AsciiMetadataValue>) -> Self {
        let environment = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
        let mut names = named.map(str::to_owned).into_iter().chain(environment);
        Self { user: names.find_map(|name| user(&name)), authorization }
    }
}

fn user(name: &str) -> Option<User> {
    let name = person(name).ok()?;
    if name.is_ascii() {
        return name.parse().ok().map(User::Ascii);
    }
    Some(User::Other(BinaryMetadataValue::from_bytes(name.as_bytes())))
}

impl Interceptor for Signature {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match &self.user {
            Some(User::Ascii(name)) => drop(request.metadata_mut().insert("taxond-user", name.clone())),
            Some(User::Other(name)) => {
                drop(request.metadata_mut().insert_bin("taxond-user-bin", name.clone()));
            }
            None => {}
        }
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The innermost cause: the outer ones say "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_daemon_takes_are_sent() {
        assert_eq!(user("ada"), Some(User::Ascii(AsciiMetadataValue::from_static("ada"))));
        let other = |name: &str| Some(User::Other(BinaryMetadataValue::from_bytes(name.as_bytes())));
        assert_eq!((user("张伟"), user("zoe\u{308}")), (other("张伟"), other("zo\u{eb}")));
        for name in ["", " ", "a\tb", "x via admin", "\u{202e}ada", &"x".repeat(129)] {
            assert!(user(name).is_none(), "{name:?}");
        }
    }
}
