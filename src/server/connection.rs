//! One connection of a client, whatever it came over.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{
    idle::{IdleTimer, OpenCalls, Patience},
    places::{Place, Standing},
};
use crate::service::Peer;

/// A connection and who is at its other end.
#[derive(Debug)]
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    /// What was read of it before it was handed over, and how much of that was given on.
    preface: [u8; PREFACE.len()],
    given: usize,
    calls: OpenCalls,
    /// When it has been without a call for too long.
    idle: IdleTimer,
    /// Its place among the connections that may be open.
    place: Place,
}

/// What calls are told of their connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Who is at its other end.
    pub(super) peer: Peer,
    /// The calls that are open on it.
    pub(super) calls: OpenCalls,
    /// How it counts among the connections that may be open.
    pub(super) standing: Standing,
}

/// What a client sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What bytes go over.
#[derive(Debug)]
pub(super) enum Io {
    /// TCP, in the clear.
    Tcp(TcpStream),
    /// TCP, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// The unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Connection {
    /// Reads what a client sends first, so that a connection is not kept for one who sends nothing.
    ///
    /// # Errors
    /// The client went, or speaks something else.
    pub(super) async fn greet(
        mut io: Io,
        peer: Peer,
        mut place: Place,
        patience: Patience,
    ) -> io::Result<Self> {
        let mut preface = [0; PREFACE.len()];
        tokio::select! {
            read = io.read_exact(&mut preface) => read?,
            () = place.closed() => return Err(made_room()),
        };
        if preface != *PREFACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"));
        }
        let calls = OpenCalls::new();
        let idle = IdleTimer::new(calls.clone(), patience);
        Ok(Self { io, peer, preface, given: 0, calls, idle, place })
    }

    /// Ready when it is to be closed: it made no call for too long, or makes room for another.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.place.poll_closed(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.idle.poll(cx),
        }
    }

    /// What a write gives: an error where it would wait on a connection that is to be closed, as the client of one that is
    /// not read may never let it go on.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() && self.poll_over(cx).is_ready() {
            return Poll::Ready(Err(made_room()));
        }
        written
    }
}

/// Why a connection ends that the client did not end.
pub(super) fn made_room() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection makes room for others")
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        Client { peer: self.peer.clone(), calls: self.calls.clone(), standing: self.place.standing() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.preface.len() {
            let connection = self.get_mut();
            let rest = &connection.preface[connection.given..];
            let length = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..length]);
            connection.given += length;
            return Poll::Ready(Ok(()));
        }
        let connection = self.get_mut();
        let read = Pin::new(&mut connection.io).poll_read(cx, buffer);
        if read.is_pending() {
            // As if the client had ended it.
            return connection.poll_over(cx).map(Ok);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        let written = Pin::new(&mut connection.io).poll_write(cx, bytes);
        connection.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        let written = Pin::new(&mut connection.io).poll_write_vectored(cx, slices);
        connection.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        let flushed = Pin::new(&mut connection.io).poll_flush(cx);
        connection.written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        let shut = Pin::new(&mut connection.io).poll_shutdown(cx);
        connection.written(cx, shut)
    }
}

/// The same call on whichever it is.
macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Tcp($stream) => $call,
            Io::Tls($stream) => $call,
            #[cfg(unix)]
            Io::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
