//! Where a call comes from, as the connection shows it.

use std::{fmt, net::SocketAddr, sync::Arc};

/// The other end of a connection; an extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An address, over TCP.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The names in the certificate that the client showed, the common name first; none where it showed none.
        certificate: Option<Arc<[String]>>,
    },
    /// A process of this machine, over the unix socket.
    Unix {
        /// Number of its user.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, .. } => address.fmt(f),
            Self::Unix { uid } => write!(f, "uid {uid}"),
        }
    }
}
