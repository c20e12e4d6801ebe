//! TLS: the daemon's certificate and whose certificates clients may show, read again when the files change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use crate::{
    config,
    error::{Error, Result},
    file,
};

/// The protocol that is spoken within: HTTP/2.
const ALPN: &[u8] = b"h2";

/// The certificate that new connections see. Those that are open keep theirs.
#[derive(Debug)]
pub(super) struct Tls {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
    /// The files when they were read last, well or not, so that a bad one is told of once.
    read: Mutex<Vec<Stamp>>,
}

/// What tells a file from what it was before; none where it cannot be read.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting and the file that is wrong.
    pub(super) fn load(files: config::Tls) -> Result<Self> {
        let stamps = stamps(&files);
        let current = ArcSwap::from_pointee(server_config(&files)?);
        Ok(Self { files, current, read: Mutex::new(stamps) })
    }

    /// What greets a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Reads the files again. Where they are wrong, what was read before goes on.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub(super) fn reload(&self) -> Result<()> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        self.current.store(Arc::new(server_config(&self.files)?));
        Ok(())
    }

    /// Whether a file is another one than when it was read last.
    pub(super) fn is_changed(&self) -> bool {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.files)
    }
}

fn stamps(files: &config::Tls) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten().map(stamp).collect()
}

fn server_config(files: &config::Tls) -> Result<ServerConfig> {
    let chain = certificates("tls_cert", &files.cert)?;
    let key = file::read(&files.key).map_err(|cause| wrong("tls_key", &files.key, cause))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|cause| wrong("tls_key", &files.key, cause))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| Error::Internal(format!("TLS: {cause}")))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
    };
    // Also refuses a key that is not that of the certificate.
    let mut config =
        builder.with_single_cert(chain, key).map_err(|cause| wrong("tls_cert", &files.cert, cause))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", path)? {
        roots.add(certificate).map_err(|cause| wrong("tls_client_ca", path, cause))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|cause| wrong("tls_client_ca", path, cause))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = file::read(path).map_err(|cause| wrong(setting, path, cause))?;
    let found = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| wrong(setting, path, cause))?;
    if found.is_empty() {
        return Err(wrong(setting, path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn wrong(setting: &str, path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::invalid(setting, format!("{}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;

    #[test]
    fn a_file_that_changes_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = Tls::load(config::Tls { cert, key: key.clone(), client_ca: None }).unwrap();
        assert!(!tls.is_changed());
        fs::write(&key, format!("{}\n", KeyPair::generate().unwrap().serialize_pem())).unwrap();
        assert!(tls.is_changed());
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.starts_with("tls_cert"), "a key of another certificate: {error}");
        assert!(!tls.is_changed(), "what is wrong is told of once");
        fs::remove_file(&key).unwrap();
        assert!(tls.is_changed());
    }
}
