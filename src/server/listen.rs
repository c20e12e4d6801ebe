//! Where the daemon listens: a TCP address, a unix socket, or both at once.

use std::{fmt, io, net::SocketAddr, ops::ControlFlow, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

#[cfg(unix)]
use super::unix::UnixSocketListener;
use super::{
    certificate,
    connection::{Connection, Io, made_room},
    idle::Patience,
    metrics::Metrics,
    places::{Limits, Place, Places},
    tls::Tls,
};
use crate::{
    config::Network,
    error::{Error, Result},
    service::Peer,
};

/// Connections that are ready and not yet taken.
const WAITING: usize = 16;
/// How long a client may take to agree on keys and to begin with HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system gave no connection, for example because there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// An address of a daemon, as clients are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket.
    Unix(PathBuf),
}

/// The sockets that are bound.
pub(super) struct Listeners {
    tcp: Option<TcpListener>,
    #[cfg(unix)]
    unix: Option<UnixSocketListener>,
    limits: Limits,
    patience: Patience,
}

impl Listeners {
    /// Binds what the settings name. Who connects from now on waits until [`Listeners::accept`].
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub(super) async fn bind(network: &Network) -> Result<Self> {
        let tcp = match network.listen {
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(|source| cannot_listen(address, source))?)
            }
            None => None,
        };
        #[cfg(unix)]
        let unix = match &network.unix {
            Some(settings) => Some(UnixSocketListener::bind(settings.clone()).await?),
            None => None,
        };
        #[cfg(not(unix))]
        if network.unix.is_some() {
            return Err(Error::invalid("unix_socket", "must not be set: this system has no unix sockets"));
        }
        Ok(Self {
            tcp,
            #[cfg(unix)]
            unix,
            limits: Limits {
                connections: network.max_connections,
                per_peer: network.max_connections_per_peer,
            },
            patience: Patience { first_call: network.first_call, idle: network.idle },
        })
    }

    /// What is bound, TCP first.
    ///
    /// # Errors
    /// The system does not tell.
    pub(super) fn addresses(&self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        if let Some(tcp) = &self.tcp {
            let bound = tcp.local_addr().map_err(|source| Error::io("reading the bound address", source))?;
            addresses.push(Address::Tcp(bound));
        }
        #[cfg(unix)]
        addresses.extend(self.unix.as_ref().map(|unix| Address::Unix(unix.path().to_owned())));
        Ok(addresses)
    }

    /// Takes connections until nobody reads the stream any more; then the sockets are closed. TCP is encrypted if there is a
    /// certificate.
    pub(super) fn accept(
        self,
        tls: Option<Arc<Tls>>,
        metrics: &Arc<Metrics>,
    ) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        // Each way in has its own places, so that one stays open when the other is full.
        if let Some(listener) = self.tcp {
            let (sender, places) = (sender.clone(), Places::new(self.limits, Arc::clone(metrics)));
            tokio::spawn(async move {
                while let ControlFlow::Continue(accepted) = next(listener.accept(), &sender).await {
                    let Some((stream, address)) = accepted else { continue };
                    let Some(place) = places.take(&Peer::Tcp { address, certificate: None }) else {
                        continue;
                    };
                    greet(&sender, tcp(stream, address, tls.clone(), place, self.patience));
                }
            });
        }
        #[cfg(unix)]
        if let Some(listener) = self.unix {
            let (sender, places) = (sender.clone(), Places::new(self.limits, Arc::clone(metrics)));
            tokio::spawn(async move {
                while let ControlFlow::Continue(accepted) = next(listener.accept(), &sender).await {
                    let Some((stream, peer)) = accepted else { continue };
                    let Some(place) = places.take(&peer) else { continue };
                    greet(&sender, Connection::greet(Io::Unix(stream), peer, place, self.patience));
                }
            });
        }
        ReceiverStream::new(receiver)
    }
}

/// The next connection, or none this time; breaks once nobody takes any.
async fn next<T>(
    accept: impl Future<Output = io::Result<T>>,
    sender: &mpsc::Sender<io::Result<Connection>>,
) -> ControlFlow<(), Option<T>> {
    let accepted = tokio::select! {
        accepted = accept => accepted,
        () = sender.closed() => return ControlFlow::Break(()),
    };
    match accepted {
        Ok(accepted) => ControlFlow::Continue(Some(accepted)),
        Err(cause) => {
            refused(&cause).await;
            ControlFlow::Continue(None)
        }
    }
}

/// Greets a client and hands the connection over, on a task of its own: nobody waits for somebody else.
fn greet(
    sender: &mpsc::Sender<io::Result<Connection>>,
    greeting: impl Future<Output = io::Result<Connection>> + Send + 'static,
) {
    let sender = sender.clone();
    tokio::spawn(async move {
        match timeout(HANDSHAKE, greeting).await {
            Ok(Ok(connection)) => {
                // Where nobody takes connections any more, this one ends.
                let _taken = sender.send(Ok(connection)).await;
            }
            Ok(Err(cause)) => debug!(%cause, "a connection was not established"),
            Err(_) => debug!("a client took too long to greet"),
        }
    });
}

/// Makes a connection of a TCP stream, encrypted if there is a certificate.
async fn tcp(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    mut place: Place,
    patience: Patience,
) -> io::Result<Connection> {
    // Or an answer in two pieces waits 40 ms for the acknowledgement of the first.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let peer = Peer::Tcp { address, certificate: None };
        return Connection::greet(Io::Tcp(stream), peer, place, patience).await;
    };
    let stream = tokio::select! {
        encrypted = tls.acceptor().accept(stream) => encrypted?,
        () = place.closed() => return Err(made_room()),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|shown| certificate::names(shown).into());
    Connection::greet(Io::Tls(Box::new(stream)), Peer::Tcp { address, certificate }, place, patience).await
}

/// Why an address cannot be listened on, and what to do where that is known.
fn cannot_listen(address: SocketAddr, cause: io::Error) -> Error {
    if cause.kind() != io::ErrorKind::AddrInUse {
        return Error::io(format!("listening on {address}"), cause);
    }
    Error::Precondition {
        reason: "ADDRESS_IN_USE",
        subject: address.to_string(),
        description: format!(
            "something listens on {address} already, perhaps another taxond; stop it, or name another address with --listen"
        ),
    }
}

async fn refused(cause: &io::Error) {
    // Of a client that went before it was served.
    if matches!(cause.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    warn!(%cause, "no connection can be taken");
    tokio::time::sleep(PAUSE).await;
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
