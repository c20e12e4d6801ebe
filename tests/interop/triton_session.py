"""Drives a daemon with the real client of NVIDIA Triton. Runs in an environment of its own; see test_triton.py.

    triton_session.py ADDRESS MODEL < {"texts": [...], "predictions": [{class: probability}, ...]}
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

address, model = sys.argv[1:]
asked = json.load(sys.stdin)
texts, predictions = asked["texts"], asked["predictions"]
best = [max(p, key=p.get) for p in predictions]
client = triton.InferenceServerClient(address)


def tensor(texts, shape=None):
    """The input, as numpy arrays become it: raw bytes."""
    data = np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape or [len(texts)])
    made = triton.InferInput("text", data.shape, "BYTES")
    return made.set_data_from_numpy(data)


def strings(array):
    return [label.decode() for label in array.reshape(-1)]


def refused(call, code, *parts):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", error
        assert all(part in error.message() for part in parts), error
        return
    raise AssertionError("the call was accepted")


def answers():
    result = client.infer(model, [tensor(texts)], request_id="seven")
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == (model, "1", "seven")
    assert [output.name for output in response.outputs] == ["label", "score"]
    assert strings(result.as_numpy("label")) == best
    scores = result.as_numpy("score")
    assert scores.dtype == np.float32 and scores.shape == (len(texts),)
    np.testing.assert_allclose(scores, [p[name] for p, name in zip(predictions, best)], rtol=1e-6)


def columns():
    wanted = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("label")]
    result = client.infer(model, [tensor(texts, [len(texts), 1])], model_version="serving", outputs=wanted)
    assert result.as_numpy("score") is None
    assert result.as_numpy("label").shape == (len(texts), 1)
    probabilities = result.as_numpy("probabilities")
    classes = json.loads(result.get_output("probabilities").parameters["class_names"].string_param)
    assert probabilities.shape == (len(texts), len(classes))
    np.testing.assert_allclose(probabilities, [[p[name] for name in classes] for p in predictions], rtol=1e-6)
    assert [classes[column] for column in probabilities.argmax(axis=1)] == best


def metadata():
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "taxond" and server["extensions"] == ["model_repository"]
    described = client.get_model_metadata(model)
    assert list(described.versions) == ["1"]
    assert [(i.name, i.datatype, list(i.shape)) for i in described.inputs] == [("text", "BYTES", [-1])]
    shapes = {output.name: (output.datatype, list(output.shape)) for output in described.outputs}
    assert shapes["label"] == ("BYTES", [-1]) and shapes["score"] == ("FP32", [-1])
    assert shapes["probabilities"] == ("FP32", [-1, len(predictions[0])])


def repository():
    state = lambda: {(m.name, m.version): m.state for m in client.get_model_repository_index().models}[model, "1"]
    client.load_model(model)
    assert state() == "READY"
    client.unload_model(model)
    assert state() == "UNAVAILABLE"
    answers()
    assert state() == "READY"


def refusals():
    refused(lambda: client.infer("none", [tensor(texts)]), "NOT_FOUND", "models/none")
    refused(lambda: client.infer(model, [tensor(texts)], model_version="99"), "NOT_FOUND", "versions/99")
    refused(lambda: client.infer(model, [tensor(["fine", " "])]), "INVALID_ARGUMENT", "raw_input_contents[0][1]", "blank")
    logits = [triton.InferRequestedOutput("logits")]
    refused(lambda: client.infer(model, [tensor(texts)], outputs=logits), "INVALID_ARGUMENT", "'logits'")
    classified = [triton.InferRequestedOutput("label", class_count=2)]
    refused(lambda: client.infer(model, [tensor(texts)], outputs=classified), "INVALID_ARGUMENT", "'classification'")
    numbers = triton.InferInput("text", [1], "FP32")
    numbers.set_data_from_numpy(np.array([1], dtype=np.float32))
    refused(lambda: client.infer(model, [numbers]), "INVALID_ARGUMENT", "tensor 'text' must be BYTES, got 'FP32'")
    refused(lambda: client.load_model("none"), "NOT_FOUND", "models/none")
    refused(lambda: client.load_model(model, config="{}"), "INVALID_ARGUMENT", "'config'")


async def many_at_once():
    async with triton_aio.InferenceServerClient(address) as client:
        results = await asyncio.gather(*(client.infer(model, [tensor([text])]) for text in texts * 8))
    assert [strings(result.as_numpy("label"))[0] for result in results] == best * 8


metadata()
answers()
columns()
repository()
refusals()
asyncio.run(many_at_once())
