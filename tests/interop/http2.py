"""HTTP/2 (RFC 9113) frame by frame, for what no library would send."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x9
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 0x4
# Codes of errors.
PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0x1, 0x7, 0x8, 0xB

_HEAD = 9


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame as bytes; without a stream it is the connection's."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name, value):
    """A header as HPACK writes it (RFC 7541, 6.2.2): in full, and in no table."""
    return b"\x00" + _string(name) + _string(value)


def call(path):
    """The headers of a call of gRPC."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    return b"".join(header(name.encode(), value.encode()) for name, value in fields.items())


def message(serialised):
    """A message of gRPC: not compressed, with its length."""
    return struct.pack(">BI", 0, len(serialised)) + serialised


class Connection:
    """A connection over TCP, which notes of what it receives how streams and the connection ended."""

    def __init__(self, address, preface=PREFACE, settings=b""):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        # Whether the other end has closed it.
        self.closed = False
        # The streams that data came on, and the error code of each that was reset.
        self.answered = set()
        self.resets = {}
        # The streams whose end has come, in whatever way.
        self.ended = set()
        # The error code that the connection ended with.
        self.farewell = None
        if preface == PREFACE:
            preface += frame(SETTINGS, payload=settings)
        self.send(preface)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, frames, timeout=None):
        """Sends bytes; false where the other end takes no more: it has closed, or does not read within so many seconds."""
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(frames)
        except TimeoutError:
            return False
        except OSError:
            self.closed = True
        return not self.closed

    def receive(self, timeout=0.0):
        """Reads what comes first within so many seconds, and returns its bytes; none where nothing came or it has ended."""
        self._socket.settimeout(timeout)
        try:
            received = self._socket.recv(1 << 18)
            self.closed |= not received
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError:
            self.closed = True
            return b""
        self._received += received
        start = 0
        while len(self._received) - start >= _HEAD:
            payload = start + _HEAD
            end = payload + int.from_bytes(self._received[start : start + 3], "big")
            if len(self._received) < end:
                break
            kind, flags, stream = struct.unpack(">BBI", self._received[start + 3 : payload])
            self._note(kind, flags, stream, self._received[payload:end])
            start = end
        self._received = self._received[start:]
        return received

    def _note(self, kind, flags, stream, payload):
        if kind == GOAWAY:
            self.farewell = int.from_bytes(payload[4:8], "big")
        elif kind == RST_STREAM:
            # The first one: frames that were under way are answered with others.
            self.resets.setdefault(stream, int.from_bytes(payload, "big"))
            self.ended.add(stream)
        elif kind in (HEADERS, DATA):
            if kind == DATA and payload:
                self.answered.add(stream)
            if flags & END_STREAM:
                self.ended.add(stream)


def _string(text):
    # Without Huffman's code. A length that does not fit into seven bits goes on, seven at a time (RFC 7541, 5.1).
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    octets, rest = bytearray([127]), length - 127
    while rest >= 128:
        octets.append(rest % 128 + 128)
        rest //= 128
    octets.append(rest)
    return bytes(octets) + text
