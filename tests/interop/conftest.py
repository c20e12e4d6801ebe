"""Makes the stubs from the protos and gives the tests daemons, clients and examples."""

import csv
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROTO = HERE.parent.parent / "proto"

# Named here, so that the tests read as sentences.
SMALL, LARGE = "取款两万以下", "取款两万以上"


def pytest_configure(config):
    # The tests import the stubs, so these must stand before the tests are collected.
    stubs = tempfile.TemporaryDirectory(prefix="taxond-stubs-")
    config.add_cleanup(stubs.cleanup)
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("taxond/v1/*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={stubs.name}"]
        + [f"--grpc_python_out={stubs.name}", *protos],
        check=True,
    )
    sys.path.insert(0, stubs.name)


@pytest.fixture(scope="session")
def examples():
    """The labelled texts of data/intents.tsv."""
    with (HERE / "data" / "intents.tsv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file, delimiter="\t")]


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    """One daemon for all tests that do not stop it."""
    from daemon import Daemon

    folder = tmp_path_factory.mktemp("shared")
    running = Daemon(folder / "data", folder / "log").start()
    yield running
    assert running.running(), running.tail()
    assert running.stop() == 0, running.tail()


@pytest.fixture
def own_daemon(tmp_path):
    """A daemon that the test may stop and kill."""
    from daemon import Daemon

    running = Daemon(tmp_path / "data", tmp_path / "log").start()
    yield running
    if running.running():
        running.kill()


@pytest.fixture
def client(daemon):
    from client import Client

    with Client(daemon.address) as connected:
        yield connected


@pytest.fixture
def taxond(daemon):
    """Runs a command against the daemon and returns the JSON documents that it printed."""
    from daemon import binary

    def run(*arguments, status=0):
        command = [binary(), "--addr", f"http://{daemon.address}", "--json", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")
        assert done.returncode == status, done.stderr
        return [json.loads(line) for line in (done.stdout if status == 0 else done.stderr).splitlines()]

    return run


@pytest.fixture(scope="session")
def fresh_id():
    """Gives ids of models that no other test uses."""
    numbers = itertools.count(1)
    return lambda prefix="model": f"{prefix}-{next(numbers)}"


@pytest.fixture
def trained(client, fresh_id, examples):
    """The name of a model of its own that has learnt the examples."""
    name = client.create(fresh_id("trained"))
    client.add(name, examples)
    client.train(name, seed=7)
    return name
