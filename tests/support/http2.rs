//! HTTP/2 (RFC 9113) frame by frame, for clients that end a call as no library lets a test choose.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Codes of errors.
pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const CANCEL: u32 = 8;

/// The one stream that is opened on a connection.
const STREAM: u32 = 1;

/// A connection with one call of gRPC.
pub struct Call(TcpStream);

/// A frame that was received: its kind, flags, stream and payload.
pub struct Received {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Call {
    /// Sends the headers of a call, with others beside those that gRPC needs.
    pub fn begin(address: SocketAddr, path: &str, others: &[(&str, &str)]) -> Self {
        let mut call = Self(TcpStream::connect(address).unwrap());
        call.0.set_nodelay(true).unwrap();
        call.0.write_all(PREFACE).unwrap();
        call.frame(SETTINGS, 0, 0, &[]);
        let needed = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block: Vec<u8> =
            needed.iter().chain(others).flat_map(|(name, value)| header(name, value)).collect();
        call.frame(HEADERS, END_HEADERS, STREAM, &block);
        call
    }

    /// Sends a message, which does not end the stream.
    pub fn message(&mut self, message: &impl prost::Message) {
        let bytes = message.encode_to_vec();
        let mut framed = vec![0];
        framed.extend((bytes.len() as u32).to_be_bytes());
        framed.extend(bytes);
        framed.chunks(1 << 14).for_each(|piece| self.frame(DATA, 0, STREAM, piece));
    }

    /// Ends the stream properly.
    pub fn end(&mut self) {
        self.frame(DATA, END_STREAM, STREAM, &[]);
    }

    /// Ends the stream properly and resets it in the same breath, as Node does where a call is cancelled.
    pub fn end_and_reset(&mut self, code: u32) {
        let mut frames = frame(DATA, END_STREAM, STREAM, &[]);
        frames.extend(frame(RST_STREAM, 0, STREAM, &code.to_be_bytes()));
        self.0.write_all(&frames).unwrap();
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: u32) {
        self.frame(RST_STREAM, 0, STREAM, &code.to_be_bytes());
    }

    /// The next frame; none once the other end has closed the connection.
    pub fn receive(&mut self) -> Option<Received> {
        let mut head = [0; HEAD];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Received { kind: head[3], flags: head[4], stream, payload })
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&frame(kind, flags, stream, payload)).unwrap();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as HPACK writes it (RFC 7541, 6.2.2): in full, and in no table.
fn header(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        [&[length.expect("headers of tests are short")], text.as_bytes()].concat()
    };
    [vec![0], string(name), string(value)].concat()
}
