//! Authorities, the certificates that they sign, and a daemon behind TLS.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use taxond::{
    config::{Config, Settings},
    proto::v1::{self, registry_service_client::RegistryServiceClient},
    server::{self, Running},
};
use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Error, Identity},
};

/// An authority and what it signs.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
pub struct Signed {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { cert, key: key.serialize_pem() }
    }

    pub fn server(&self) -> Signed {
        self.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    pub fn client(&self, name: &str) -> Signed {
        self.sign(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }
}

/// A daemon behind TLS, with its files.
pub struct Secured {
    pub dir: TempDir,
    pub running: Running,
}

impl Secured {
    pub async fn start(server: &Signed, client_ca: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Self::settings(&dir, server, client_ca);
        let running = server::start(Config::new(settings).unwrap()).await.unwrap();
        Self { dir, running }
    }

    pub fn settings(dir: &TempDir, server: &Signed, client_ca: Option<&Authority>) -> Settings {
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Settings {
            listen: Some("127.0.0.1:0".into()),
            data_dir: Some(dir.path().join("data")),
            drain_seconds: Some(5.0),
            tls_cert: Some(file("tls.crt", &server.cert)),
            tls_key: Some(file("tls.key", &server.key)),
            tls_client_ca: client_ca.map(|authority| file("clients.crt", &authority.pem)),
            ..Settings::default()
        }
    }

    pub async fn connect(&self, authority: &Authority, client: Option<&Signed>) -> Result<Channel, Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&authority.pem))
            .domain_name("localhost");
        let tls = match client {
            Some(Signed { cert, key }) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        };
        let address = format!("https://{}", self.running.address);
        Channel::from_shared(address).unwrap().tls_config(tls).unwrap().connect().await
    }

    /// Whether a call is answered: a client that is turned away learns it with the handshake, or with its first call.
    pub async fn serves(&self, authority: &Authority, client: Option<&Signed>) -> bool {
        match self.connect(authority, client).await {
            Ok(channel) => list(channel).await.is_ok(),
            Err(_) => false,
        }
    }

    pub async fn stop(self) {
        self.running.stop().await.unwrap();
    }
}

pub async fn list(channel: Channel) -> Result<(), Status> {
    RegistryServiceClient::new(channel).list_models(v1::ListModelsRequest::default()).await.map(drop)
}
