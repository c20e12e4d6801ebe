//! How the daemon is reached.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{MAX_DAYS, Settings, within};
use crate::error::{Error, Result};

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50061);
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
const DEFAULT_FIRST_CALL_SECONDS: f64 = 10.0;
const DEFAULT_IDLE_SECONDS: f64 = 3600.0;
/// What `listen` says where there is no TCP port.
const NONE: &str = "none";

/// The checked settings of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// TCP address to listen on; port 0 takes a free one. Default 127.0.0.1:50061; absent where it says `none`.
    pub listen: Option<SocketAddr>,
    /// Unix socket to listen on. Default: none.
    pub unix: Option<UnixSocket>,
    /// Encryption of TCP. Default: none.
    pub tls: Option<Tls>,
    /// Connections that may be open, over TCP and over the socket each, 1 to 1,000,000. Default 1024.
    pub max_connections: usize,
    /// Connections of one peer, an IP address (of IPv6, its /64 network) or a user, that carried no call of somebody who may call,
    /// 1 to 1,000,000. Default: half of `max_connections`.
    pub max_connections_per_peer: usize,
    /// How long a connection may be without its first call, up to a hundred years; for ever where there is none. Default ten
    /// seconds.
    pub first_call: Option<Duration>,
    /// How long a connection may be without a call, and a PredictStream without a message, up to a hundred years; for ever where there is none. Default an hour.
    pub idle: Option<Duration>,
    /// Calls a second of each identity, 1 to 1,000,000. Default: not limited.
    pub rate_limit: Option<u32>,
    /// Address of the HTTP port for metrics and probes. Default: none.
    pub metrics_listen: Option<SocketAddr>,
}

/// Files in PEM that make connections over TCP encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The daemon's certificate, followed by those that lead to its authority.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities of clients. If given, every client over TCP must show a certificate of one of them.
    pub client_ca: Option<PathBuf>,
}

/// A unix socket and who may connect to it beside the user of the daemon and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// Path of the socket. Its folder is made, for its owner alone, if it is not there.
    pub path: PathBuf,
    /// Numbers of users.
    pub allow_uids: Vec<u32>,
    /// Numbers of groups: the primary group of the process that connects counts, on Linux also its supplementary ones.
    pub allow_gids: Vec<u32>,
}

impl Network {
    /// Checks the settings of the network together.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let listen = listen(settings.listen.as_deref())?;
        let tls = tls(settings)?;
        if let Some(address) = listen.filter(|address| !address.ip().is_loopback())
            && tls.is_none()
            && !settings.insecure.unwrap_or(false)
        {
            let what = format!(
                "{address} can be reached from other machines, and calls are not encrypted; listen on 127.0.0.1, \
                 give tls_cert and tls_key, or say --insecure if the network is trusted"
            );
            return Err(Error::invalid("listen", what));
        }
        let unix = unix(settings)?;
        if listen.is_none() && unix.is_none() {
            return Err(Error::invalid("listen", "must name an address, or unix_socket a path, got neither"));
        }
        let max_connections = settings.max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS);
        within("max_connections", max_connections, 1, 1_000_000)?;
        let max_connections_per_peer =
            settings.max_connections_per_peer.unwrap_or_else(|| max_connections.div_ceil(2));
        within("max_connections_per_peer", max_connections_per_peer, 1, 1_000_000)?;
        let first_call = settings.first_call_seconds.unwrap_or(DEFAULT_FIRST_CALL_SECONDS);
        within("first_call_seconds", first_call, 0.0, MAX_DAYS * 86_400.0)?;
        let first_call = (first_call > 0.0).then(|| Duration::from_secs_f64(first_call));
        let idle = settings.idle_seconds.unwrap_or(DEFAULT_IDLE_SECONDS);
        within("idle_seconds", idle, 0.0, MAX_DAYS * 86_400.0)?;
        let idle = (idle > 0.0).then(|| Duration::from_secs_f64(idle));
        let rate_limit = settings.rate_limit.filter(|&limit| limit > 0);
        within("rate_limit", rate_limit.unwrap_or(1), 1, 1_000_000)?;
        let metrics_listen = metrics_listen(settings)?;
        Ok(Self {
            listen,
            unix,
            tls,
            max_connections,
            max_connections_per_peer,
            first_call,
            idle,
            rate_limit,
            metrics_listen,
        })
    }
}

fn listen(given: Option<&str>) -> Result<Option<SocketAddr>> {
    match given {
        None => Ok(Some(DEFAULT_LISTEN)),
        Some(NONE) => Ok(None),
        Some(listen) => listen.parse().map(Some).map_err(|_| {
            let what = format!(
                "must be an IP address and a port such as 127.0.0.1:50061, or 'none', got '{listen}'"
            );
            Error::invalid("listen", what)
        }),
    }
}

fn metrics_listen(settings: &Settings) -> Result<Option<SocketAddr>> {
    let Some(given) = &settings.metrics_listen else { return Ok(None) };
    let address: SocketAddr = given.parse().map_err(|_| {
        let what = format!("must be an IP address and a port such as 127.0.0.1:9090, got '{given}'");
        Error::invalid("metrics_listen", what)
    })?;
    if !address.ip().is_loopback() && !settings.insecure.unwrap_or(false) {
        let what = format!(
            "{address} can be reached from other machines, and metrics are neither encrypted nor authenticated; listen \
             on 127.0.0.1, or say --insecure if the network is trusted"
        );
        return Err(Error::invalid("metrics_listen", what));
    }
    Ok(Some(address))
}

fn unix(settings: &Settings) -> Result<Option<UnixSocket>> {
    let allow_uids = settings.unix_allow_uids.clone().unwrap_or_default();
    let allow_gids = settings.unix_allow_gids.clone().unwrap_or_default();
    match &settings.unix_socket {
        Some(path) if !path.is_absolute() => {
            let what = format!("must be an absolute path, got '{}'", path.display());
            Err(Error::invalid("unix_socket", what))
        }
        Some(path) => Ok(Some(UnixSocket { path: path.clone(), allow_uids, allow_gids })),
        None if allow_uids.is_empty() && allow_gids.is_empty() => Ok(None),
        None => Err(Error::invalid(
            "unix_socket",
            "must name a path where unix_allow_uids or unix_allow_gids is set",
        )),
    }
}

fn tls(settings: &Settings) -> Result<Option<Tls>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => {
            Ok(Some(Tls { cert: cert.clone(), key: key.clone(), client_ca: settings.tls_client_ca.clone() }))
        }
        (Some(_), None) => Err(Error::invalid("tls_key", "must be given where tls_cert is")),
        (None, Some(_)) => Err(Error::invalid("tls_cert", "must be given where tls_key is")),
        (None, None) if settings.tls_client_ca.is_some() => {
            Err(Error::invalid("tls_cert", "must be given where tls_client_ca is"))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(listen: &str, unix_socket: Option<&str>) -> Result<Network> {
        let unix_socket = unix_socket.map(PathBuf::from);
        Network::new(&Settings { listen: Some(listen.into()), unix_socket, ..Settings::default() })
    }

    #[test]
    fn there_must_be_a_way_in() {
        assert!(network("none", None).unwrap_err().to_string().starts_with("listen"));
        let network = network("none", Some("/run/taxond.sock")).unwrap();
        assert!(network.listen.is_none() && network.unix.is_some());
    }

    #[test]
    fn only_insecure_listens_beyond_this_machine() {
        let everywhere = Settings { listen: Some("0.0.0.0:50061".into()), ..Settings::default() };
        assert!(Network::new(&everywhere).unwrap_err().to_string().contains("--insecure"));
        let tls = Settings { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..everywhere.clone() };
        assert!(Network::new(&tls).is_ok());
        assert!(Network::new(&Settings { insecure: Some(true), ..everywhere }).is_ok());
        assert!(network("[::1]:0", None).is_ok());
    }

    #[test]
    fn nonsense_is_refused_by_field_and_value() {
        let message = |listen, path| network(listen, path).unwrap_err().to_string();
        assert!(message("localhost", None).contains("'localhost'"));
        assert!(
            message("127.0.0.1:0", Some("taxond.sock")).contains("unix_socket: must be an absolute path")
        );
        let number = |settings: &Settings| Network::new(settings).unwrap_err().to_string();
        let (many, none) = (Some(2_000_000), Settings::default);
        assert!(number(&Settings { rate_limit: many, ..none() }).contains("rate_limit: must be 1 to"));
        assert!(number(&Settings { max_connections: Some(0), ..none() }).contains("max_connections: must"));
        let metrics = |address: &str| {
            let settings = Settings { metrics_listen: Some(address.into()), ..Settings::default() };
            Network::new(&settings).map_err(|error| error.to_string())
        };
        assert!(metrics("9090").unwrap_err().contains("'9090'"));
        assert!(metrics("0.0.0.0:9090").unwrap_err().contains("--insecure"));
        assert!(metrics("127.0.0.1:9090").is_ok());
        let allowed = Settings { unix_allow_uids: Some(vec![7]), ..Settings::default() };
        assert!(Network::new(&allowed).unwrap_err().to_string().starts_with("unix_socket"));
        let half = |settings: &Settings| Network::new(settings).unwrap_err().to_string();
        assert!(half(&Settings { tls_cert: Some("c".into()), ..none() }).starts_with("tls_key"));
        assert!(half(&Settings { tls_key: Some("k".into()), ..none() }).starts_with("tls_cert"));
        assert!(half(&Settings { tls_client_ca: Some("a".into()), ..none() }).starts_with("tls_cert"));
    }
}
