//! What a client needs for a daemon behind TLS: whom to trust, and what to show.

use std::{fs, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::cli::{
    Global,
    failure::{Exit, Failure},
};

/// The address with its scheme, which people leave out: `127.0.0.1:50061`.
pub(super) fn address(global: &Global) -> String {
    let scheme = if global.tls_ca.is_some() { "https" } else { "http" };
    if global.addr.contains("://") { global.addr.clone() } else { format!("{scheme}://{}", global.addr) }
}

/// How to speak TLS to an address; none where it is not spoken there.
///
/// # Errors
/// A file that is missing, cannot be read, or has no place with this address.
pub(super) fn tls(global: &Global, address: &str) -> Result<Option<ClientTlsConfig>, Failure> {
    let wrong = |what: &str| Failure::new(Exit::Usage, what);
    if !address.starts_with("https://") {
        let given = global.tls_ca.is_some() || global.tls_cert.is_some();
        // The environment may name files for daemons elsewhere; a socket of this machine needs none.
        if given && address.starts_with("http://") {
            let message = format!("certificates have no use with {address}");
            return Err(wrong(&message).with_hint("say https:// in --addr, or leave out the --tls options"));
        }
        return Ok(None);
    }
    let Some(authorities) = &global.tls_ca else {
        return Err(wrong("an https:// address needs --tls-ca").with_hint(
            "name the authority of the daemon's certificate, or what this machine trusts, for example \
             --tls-ca /etc/ssl/certs/ca-certificates.crt",
        ));
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authorities)?));
    match (&global.tls_cert, &global.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(tls.identity(Identity::from_pem(read(cert)?, read(key)?)))),
        (None, None) => Ok(Some(tls)),
        (Some(_), None) => Err(wrong("--tls-cert needs --tls-key")),
        (None, Some(_)) => Err(wrong("--tls-key needs --tls-cert")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|cause| Failure::read(&path.display().to_string(), &cause))
}
