"""A daemon for the tests, and a model that has learnt."""

import csv
import itertools
import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from taxond import Client

SMALL, LARGE = "取款两万以下", "取款两万以上"
# The repository, where the tests were copied out of it.
TREE = Path(os.environ.get("TAXOND_TREE") or Path(__file__).resolve().parents[3])
INTENTS = TREE / "tests" / "interop" / "data" / "intents.tsv"
READY = re.compile(r"listening on (127\.0\.0\.1:\d+)")
SECONDS = 60


class Daemon:
    """`taxond serve` on a folder of its own."""

    def __init__(self, folder, port=0):
        self.log = folder / "log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TAXOND_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [os.environ["TAXOND_BIN"], "serve", "--listen", f"127.0.0.1:{port}", "--device", "cpu"]
                + ["--data-dir", str(folder / "data")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        ready = queue.Queue()
        threading.Thread(target=self._watch, args=(ready,), daemon=True).start()
        self.address = ready.get(timeout=SECONDS)
        assert self.address, self.log.read_text()

    def _watch(self, ready):
        # To the end, so that the daemon never blocks on a full pipe.
        for line in self.process.stdout:
            if match := READY.search(line.decode()):
                ready.put(match.group(1))
        ready.put(None)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(SECONDS)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    running = Daemon(tmp_path_factory.mktemp("daemon"))
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def examples():
    with INTENTS.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file, delimiter="\t")]


@pytest.fixture
def client(daemon):
    with Client(daemon.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def fresh():
    numbers = itertools.count(1)
    return lambda prefix="model": f"{prefix}-{next(numbers)}"


@pytest.fixture(scope="session")
def template(daemon, examples, tmp_path_factory):
    """The file of a version that has learnt the examples."""
    path = tmp_path_factory.mktemp("template") / "bank.safetensors"
    with Client(daemon.address) as client:
        client.create_model("template")
        client.add_examples("template", examples)
        client.train("template", seed=1).wait()
        client.export_version("template", path)
    return path


@pytest.fixture
def bank(client, fresh, template, examples):
    """A model of its own that has learnt the examples."""
    name = fresh("bank")
    client.create_model(name)
    client.import_version(name, template)
    client.promote(name, 1)
    client.add_examples(name, examples)
    return name
