"""Every command in the documents for newcomers is run, and prints what they say, but for the numbers."""

import csv
import json

import pytest
from conftest import HERE
from daemon import binary
from transcript import Step, blocks, differs, run, steps, workplace

TREE = HERE.parent.parent
DEFAULT_ADDRESS = "127.0.0.1:50061"

# A session is a document, and the headings under which it goes on with one daemon.
SESSIONS = {
    "demo": ("README.md", {"Two commands"}),
    "README, from a shell": ("README.md", {"From a shell"}),
    "README, grpcurl and Python": ("README.md", {"With grpcurl", "From Python"}),
    "quickstart": ("docs/quickstart.md", None),
    "cookbook": ("docs/cookbook.md", None),
    "concepts": ("docs/concepts.md", None),
    "migrating": ("docs/migrating.md", None),
    "grpcurl": ("docs/grpcurl.md", None),
}

# What is not run as it stands: the daemon is there already, and so are the program and the tests' environment. What tests
# the daemon is not tested here.
LEFT_OUT = {"cargo test"}
INSTEAD = {
    "cargo run --release -- demo": "taxond demo",
    "cargo install --path .": "taxond --version",
    "taxond serve": "taxond models",
    "pip install ./clients/python": "python -m pip install --quiet --no-deps --no-build-isolation --target . ./clients/python",
}


@pytest.mark.parametrize("session", SESSIONS)
def test_a_document_tells_the_truth(session, own_daemon, tmp_path, examples):
    document, headings = SESSIONS[session]
    chosen = [block for block in blocks(TREE / document) if headings is None or block.heading in headings]
    daemon = own_daemon
    place = tmp_path / "checkout"
    place.mkdir()
    environment = workplace(place, TREE, binary(), daemon.address)
    prepare(place, examples)
    commands = commands_of(chosen)
    assert commands
    for step in commands:
        step.command = INSTEAD.get(step.command, step.command).replace(DEFAULT_ADDRESS, daemon.address)
    outcomes = run(commands, place, environment)
    assert daemon.stop() == 0, daemon.tail()
    wrong = []
    for step, (status, output) in zip(commands, outcomes):
        wrong.append(differs(step, status, output.replace(daemon.address, DEFAULT_ADDRESS)))
    assert not any(wrong), "\n\n".join(filter(None, wrong))


def commands_of(chosen):
    """The commands of the blocks. Python is a command as well; a text after it, or after shell, is a part of what it prints."""
    found = []
    for block in chosen:
        if block.language in ("sh", "console"):
            found += [step for step in steps(block) if step.command not in LEFT_OUT]
        elif block.language == "python":
            found.append(Step(f"python - <<'END_OF_PYTHON'\n{block.text}END_OF_PYTHON", None))
        elif block.language == "text" and found:
            found[-1].printed = ["...", *block.text.splitlines(), "..."]
    return found


def prepare(place, examples):
    """The files that the documents speak of."""
    with (place / "bank.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "category"), *examples])
    pairs = [{"text": text, "label": label} for text, label in examples]
    with (place / "examples.json").open("w", encoding="utf-8") as file:
        json.dump({"model": "models/bank", "examples": pairs}, file, ensure_ascii=False)
