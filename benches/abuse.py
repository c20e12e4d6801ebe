#!/usr/bin/env python3
"""How long an ordinary client waits for Predict beside hostile connections.

    tests/interop/run -k nothing        # once: makes the environment
    PYTHON=$(.ci/python-env tests/interop/requirements.txt)/bin/python
    $PYTHON benches/abuse.py --taxond target/release/taxond

In each round and for each abuse the same loop sends the same bytes a second first to a process that only reads them, then to
the daemon, so that what the loop itself takes of the machine counts in both. The ordinary client runs in a process of
its own, as does the loop. Prints the medians of the rounds and their ratio.
"""

import argparse
import contextlib
import csv
import itertools
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTEROP = HERE.parent / "tests" / "interop"
sys.path.insert(0, str(INTEROP))

import abuse  # noqa: E402
import http2  # noqa: E402

FLOODS = ["rapid_reset", "continuation", "giant_headers", "empty_data", "pings", "settings", "no_window"]
ABUSES = [*FLOODS, "slow_greeting"]
# Connections that greet slowly, and seconds between two bytes of one.
SLOW, PAUSE = 400, 1.0
MODEL = "models/bank"
TEXTS = ["please block my lost card"]


def hostile(name, address, rate, body):
    """Sends an abuse at so many bytes a second until it is ended, and connects anew whenever it is sent away."""
    if name == "slow_greeting":
        return greet_slowly(address)
    settings = abuse.NO_WINDOW if name == "no_window" else b""
    begun, sent = time.monotonic(), 0
    while True:
        # As many calls as may wait for a window: what followed would only be refused.
        pieces = itertools.islice(abuse.calls(abuse.PREDICT, body), 128) if name == "no_window" else getattr(abuse, name)()
        with contextlib.suppress(OSError), http2.Connection(address, settings=settings) as connection:
            for piece in pieces:
                time.sleep(max(0, sent / rate - (time.monotonic() - begun)))
                sent += len(piece)
                if not connection.send(piece, timeout=1):
                    break
                connection.receive()


def greet_slowly(address):
    connections = [None] * SLOW
    for number in itertools.count():
        time.sleep(PAUSE / SLOW)
        at, step = number % SLOW, number // SLOW % len(http2.PREFACE)
        if connections[at] is None or not connections[at].send(http2.PREFACE[step : step + 1]):
            with contextlib.suppress(OSError):
                connections[at] = http2.Connection(address, preface=b"P")


def sink(pipe):
    """A process that reads and drops what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(f"127.0.0.1:{listener.getsockname()[1]}")

    def drain(connection):
        with contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass

    while True:
        threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()


def ordinary(address, seconds, stubs, pipe):
    """Asks one call after the other for so many seconds, and sends back the milliseconds of each."""
    sys.path.insert(0, stubs)
    from client import Client

    with Client(address) as client:
        for _ in range(100):
            client.predict(MODEL, TEXTS)
        waits, begun = [], time.perf_counter()
        while (start := time.perf_counter()) - begun < seconds:
            client.predict(MODEL, TEXTS)
            waits.append((time.perf_counter() - start) * 1000)
    pipe.send(waits)


def measure(options, address, stubs, name=None, target=None, body=b""):
    """The waits of the ordinary client while an abuse is sent to a target."""
    attacker = multiprocessing.Process(target=hostile, args=(name, target, options.rate * 1000, body), daemon=True)
    attacker.start()
    try:
        here, there = multiprocessing.Pipe()
        asking = multiprocessing.Process(target=ordinary, args=(address, options.seconds, stubs, there), daemon=True)
        asking.start()
        waits = here.recv()
        asking.join()
        assert attacker.is_alive(), f"{name} ended by itself"
    finally:
        attacker.kill()
        attacker.join()
    return waits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taxond", default="target/release/taxond", metavar="PATH")
    parser.add_argument("--rate", type=float, default=200, help="kilobytes a second of each abuse")
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--abuses", nargs="+", choices=ABUSES, default=ABUSES)
    options = parser.parse_args()
    os.environ["TAXOND_BIN"] = os.path.abspath(options.taxond)
    multiprocessing.set_start_method("spawn")

    with tempfile.TemporaryDirectory(prefix="taxond-abuse-") as folder:
        proto, stubs = HERE.parent / "proto", os.path.join(folder, "stubs")
        os.mkdir(stubs)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", f"--python_out={stubs}"]
        subprocess.run([*command, f"--grpc_python_out={stubs}", *proto.glob("taxond/v1/*.proto")], check=True)
        sys.path.insert(0, stubs)
        from client import Client, predict
        from daemon import Daemon

        here, there = multiprocessing.Pipe()
        multiprocessing.Process(target=sink, args=(there,), daemon=True).start()
        daemon = Daemon(Path(folder) / "data", Path(folder) / "log").start()
        try:
            with Client(daemon.address) as client, (INTEROP / "data" / "intents.tsv").open(encoding="utf-8") as file:
                client.create("bank")
                client.add(MODEL, [(row["text"], row["category"]) for row in csv.DictReader(file, delimiter="\t")])
                client.train(MODEL, seed=1)
            body = predict.PredictRequest(model=MODEL, texts=TEXTS).SerializeToString()
            compare(options, daemon, stubs, here.recv(), body)
        finally:
            daemon.kill()


def compare(options, daemon, stubs, sink_address, body):
    runs = {name: ([], []) for name in options.abuses}
    before, grown = daemon.resident(), dict.fromkeys(options.abuses, 0)
    for _ in range(options.rounds):
        for name in options.abuses:
            for kept, target in zip(runs[name], (sink_address, daemon.address)):
                waits = measure(options, daemon.address, stubs, name, target, body)
                cuts = statistics.quantiles(waits, n=100, method="inclusive")
                kept.append((cuts[49], cuts[98]))
            grown[name] = max(grown[name], daemon.resident() - before)
    print(f"{'':14} {'p50 ms':>15} {'':>6} {'p99 ms':>15} {'':>6} {'memory':>9}")
    for name, (without, beside) in runs.items():
        cells = [f"{name:14}"]
        for which in (0, 1):
            quiet, under = (statistics.median(run[which] for run in kept) for kept in (without, beside))
            ratio = statistics.median(b[which] / a[which] for a, b in zip(without, beside))
            cells.append(f"{quiet:6.2f} - {under:6.2f} {ratio:5.2f}x")
        print(*cells, f"{grown[name] / 2**20:+5.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
