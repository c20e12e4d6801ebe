"""The Open Inference Protocol, driven by the real client of NVIDIA Triton, and the example of the documentation."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "kserve.md"
TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "what is my balance"]


@pytest.fixture
def triton():
    """Runs Python where tritonclient is."""
    python = os.environ["TAXOND_TRITON_PYTHON"]

    def run(*arguments, stdin=""):
        done = subprocess.run([python, *arguments], input=stdin, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_client_of_triton_works_as_it_is(daemon, client, trained, triton):
    asked = {"texts": TEXTS, "predictions": client.probabilities(trained, TEXTS)}
    model = trained.removeprefix("models/")
    triton(str(HERE / "triton_session.py"), daemon.address, model, stdin=json.dumps(asked))


def test_the_example_of_the_documentation_works(daemon, client, trained, triton):
    document = DOCUMENT.read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    model = trained.removeprefix("models/")
    changed = example.replace("127.0.0.1:50061", daemon.address).replace('"bank"', f'"{model}"')
    assert changed.count(daemon.address) == 1 and f'"{model}"' in changed
    printed = triton("-c", changed).splitlines()
    expected = client.predict(trained, ["我想取三万元现金", "please block my lost card"], top_k=1)
    best = [prediction.classes[0] for prediction in expected.predictions]
    assert printed[: len(best)] == [f"{c.name} {c.probability:.3f}" for c in best]
