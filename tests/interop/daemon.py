"""A taxond process under test: started on a free port or a fixed one, stopped or killed, started again on the same data."""

import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path

READY = re.compile(r"listening on (127\.0\.0\.1:\d+)")
START_SECONDS = 60
STOP_SECONDS = 60


class Daemon:
    """`taxond serve` on a data folder. Its standard error goes to a file that a failing test shows."""

    def __init__(self, data_dir: Path, log: Path):
        self.data_dir = data_dir
        self.log = log
        self.address = None
        self._process = None

    def start(self, port=0):
        """Starts the process and waits for the line that names its address. The port 0 is one that is free."""
        # The C locale, and nothing of the caller's configuration: text must not depend on either.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TAXOND_", "LC_", "LANG"))}
        environment["LC_ALL"] = "C"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), "serve", "--listen", f"127.0.0.1:{port}", "--device", "cpu"]
                + ["--data-dir", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        ready = queue.Queue()
        threading.Thread(target=_watch, args=(self._process.stdout, ready), daemon=True).start()
        try:
            self.address = ready.get(timeout=START_SECONDS)
        except queue.Empty:
            self.kill()
            raise AssertionError(f"no line 'listening on ...' within {START_SECONDS} s; {self.tail()}") from None
        if self.address is None:
            raise AssertionError(f"taxond ended with {self._process.wait()}; {self.tail()}")
        return self

    def stop(self):
        """SIGTERM: the orderly way. Returns the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self):
        """SIGKILL: the process gets no chance to write anything more."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def running(self):
        return self._process is not None and self._process.poll() is None

    def resident(self):
        """Bytes that it has in memory now, as Linux counts them."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE).group(1)) * 1024

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "its last words:\n" + "\n".join(lines[-30:])


def binary():
    """The program under test."""
    return os.environ["TAXOND_BIN"]


def _watch(stdout, ready):
    # Reads to the end, so that the daemon never blocks on a full pipe. None: it ended without getting ready.
    address = None
    for line in stdout:
        match = READY.search(line.decode())
        if match and address is None:
            address = match.group(1)
            ready.put(address)
    if address is None:
        ready.put(None)
