//! What a client needs for a daemon that is guarded: whom to trust, what to show, and the token.

use std::{fs, path::Path};

use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Certificate, ClientTlsConfig, Identity},
};

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
        let given = global.tls_ca.is_some() || global.client_cert.is_some();
        // The environment may name files for daemons elsewhere; a socket of this machine needs none.
        if given && address.starts_with("http://") {
            let message = format!("certificates have no use with {address}");
            return Err(
                wrong(&message).with_hint("say https:// in --addr, or leave out --tls-ca and --client-cert")
            );
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
    match (&global.client_cert, &global.client_key) {
        (Some(cert), Some(key)) => Ok(Some(tls.identity(Identity::from_pem(read(cert)?, read(key)?)))),
        (None, None) => Ok(Some(tls)),
        (Some(_), None) => Err(wrong("--client-cert needs --client-key")),
        (None, Some(_)) => Err(wrong("--client-key needs --client-cert")),
    }
}

/// The metadata that says who calls; none without a token.
///
/// # Errors
/// A file that cannot be read, or a token that cannot be one.
pub(super) fn authorization(global: &Global) -> Result<Option<AsciiMetadataValue>, Failure> {
    let token = match (&global.token, &global.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => String::from_utf8_lossy(&read(path)?).into_owned(),
        (None, None) => return Ok(None),
    };
    // Not shown: it is a secret, if a broken one.
    let wrong = || Failure::new(Exit::Usage, "the token must be printable characters of ASCII");
    let mut value: AsciiMetadataValue = format!("Bearer {}", token.trim()).parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|cause| Failure::read(&path.display().to_string(), &cause))
}
