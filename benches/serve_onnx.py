#!/usr/bin/env python3
"""The peer of the load benchmark: PredictService in Python, on grpc.aio and ONNX Runtime.

    pip install grpcio grpcio-tools onnx onnxruntime numpy
    python benches/serve_onnx.py --texts train.csv --mode batching

The network has the dimensions of taxond's default preset (embedding 128, BiLSTM of 128 each way, mean of the states, maximum
of what is projected of them and of the embeddings, mean of the embeddings, 77 classes) and random weights: its answers mean
nothing, its time is that of the deep branch. It has it easier than taxond: a token is one row, found by its word, where taxond's is the mean of the rows
of its n-grams, and there is no wide branch.

`batching` takes all that waits whenever the session is free, sorts it by length, and pads within groups of about one
length. `plain` runs each request by itself. Prints `listening on ADDRESS`, as taxond does.
"""

import argparse
import asyncio
import csv
import importlib
import os
import re
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnx
import onnxruntime
from grpc_tools import protoc
from onnx import TensorProto, helper, numpy_helper

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "proto")
EMBEDDING, HIDDEN, CLASSES, MAX_TOKENS = 128, 128, 77, 128
TOKEN = re.compile(r"\w+|[^\w\s]")
VERSION = "models/peer/versions/1"


def stubs():
    """The modules made of the protos: messages, service."""
    target = os.path.join(PROTO, "taxond", "v1", "predict_service.proto")
    with tempfile.TemporaryDirectory(prefix="taxond-stubs-") as folder:
        if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}", target]):
            sys.exit(f"cannot compile {target}")
        sys.path.insert(0, folder)
        names = ("predict_service_pb2", "predict_service_pb2_grpc")
        return [importlib.import_module(f"taxond.v1.{name}") for name in names]


def network(rows):
    """The ONNX model: tokens `[T, B]` (0 is padding) and lengths `[B]` to probabilities `[B, C]`."""
    random = np.random.default_rng(1)

    def weights(name, *shape):
        values = random.normal(0, 0.1, shape).astype(np.float32)
        if name == "embedding":
            values[0] = 0
        return numpy_helper.from_array(values, name)

    def integers(name, *values):
        return numpy_helper.from_array(np.array(values, np.int64), name)

    features = 4 * HIDDEN + EMBEDDING
    constants = [
        weights("embedding", rows, EMBEDDING),
        weights("input_weights", 2, 4 * HIDDEN, EMBEDDING),
        weights("recurrent_weights", 2, 4 * HIDDEN, HIDDEN),
        weights("bias", 2, 8 * HIDDEN),
        weights("projection", 2 * HIDDEN + EMBEDDING, 2 * HIDDEN),
        weights("projection_bias", 2 * HIDDEN),
        weights("head", features, CLASSES),
        weights("head_bias", CLASSES),
        numpy_helper.from_array(np.array(-1e9, np.float32), "lowest"),
        integers("steps_axis", 0),
        integers("last_axis", -1),
        integers("states_shape", 0, 0, 2 * HIDDEN),
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
    ]
    node = helper.make_node
    nodes = [
        node("Gather", ["embedding", "tokens"], ["embedded"]),  # [T, B, E]
        node(
            "LSTM",
            ["embedded", "input_weights", "recurrent_weights", "bias", "lengths"],
            ["by_direction"],  # [T, 2, B, H], zero after the end of a text
            hidden_size=HIDDEN,
            direction="bidirectional",
        ),
        node("Transpose", ["by_direction"], ["by_text"], perm=[0, 2, 1, 3]),
        node("Reshape", ["by_text", "states_shape"], ["states"]),  # [T, B, 2H]
        node("Cast", ["lengths"], ["lengths_float"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["lengths_float", "last_axis"], ["divisor"]),  # [B, 1]
        node("ReduceSum", ["states", "steps_axis"], ["states_sum"], keepdims=0),
        node("Div", ["states_sum", "divisor"], ["states_mean"]),
        node("ReduceSum", ["embedded", "steps_axis"], ["embedded_sum"], keepdims=0),
        node("Div", ["embedded_sum", "divisor"], ["embedded_mean"]),
        node("Equal", ["tokens", "zero"], ["is_padding"]),
        node("Where", ["is_padding", "lowest", "nothing"], ["mask"]),
        node("Unsqueeze", ["mask", "last_axis"], ["mask_wide"]),  # [T, B, 1]
        node("Concat", ["states", "embedded"], ["sides"], axis=2),  # [T, B, 2H + E]
        node("MatMul", ["sides", "projection"], ["product"]),
        node("Add", ["product", "projection_bias"], ["projected"]),  # [T, B, 2H]
        node("Add", ["projected", "mask_wide"], ["masked"]),
        node("ReduceMax", ["masked", "steps_axis"], ["projected_max"], keepdims=0),
        node("Tanh", ["projected_max"], ["strongest"]),
        node("Concat", ["states_mean", "strongest", "embedded_mean"], ["features"], axis=1),
        node("Gemm", ["features", "head", "head_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("tokens", TensorProto.INT64, ["T", "B"]), value("lengths", TensorProto.INT32, ["B"])]
    outputs = [value("probabilities", TensorProto.FLOAT, ["B", CLASSES])]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Classifier:
    """Texts to best classes."""

    def __init__(self, vocabulary, threads, spin):
        self.vocabulary = vocabulary
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        model = network(len(vocabulary) + 2)
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def encode(self, text):
        """The rows of the tokens, at least one; 1 is an unknown word."""
        find = self.vocabulary.get
        return [find(token, 1) for token in TOKEN.findall(text.lower())[:MAX_TOKENS]] or [1]

    def best(self, texts):
        """Class, probability and tokens of each encoded text, padded to the longest."""
        lengths = [len(text) for text in texts]
        tokens = np.zeros((len(texts), max(lengths)), np.int64)
        for row, text in zip(tokens, texts):
            row[: len(text)] = text
        feed = {"tokens": np.ascontiguousarray(tokens.T), "lengths": np.array(lengths, np.int32)}
        (probabilities,) = self.session.run(None, feed)
        classes = probabilities.argmax(axis=1)
        return list(zip(classes.tolist(), probabilities.max(axis=1).tolist(), lengths))


class Plain:
    """Each request by itself, as many at once as there are threads."""

    def __init__(self, classifier, threads):
        self.classifier = classifier
        self.pool = ThreadPoolExecutor(threads)

    async def ask(self, texts):
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.classifier.best, texts)


class Batching:
    """All that waits when the session is free, in groups of about one length."""

    def __init__(self, classifier, largest, slack):
        self.classifier, self.largest, self.slack = classifier, largest, slack
        self.pool = ThreadPoolExecutor(1)
        self.waiting, self.running = [], False

    async def ask(self, texts):
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self.waiting.append((texts, answer))
        if not self.running:
            self.running = True
            loop.create_task(self.work(loop))
        return await answer

    async def work(self, loop):
        while self.waiting:
            requests, self.waiting = self.waiting, []
            texts = [text for request, _ in requests for text in request]
            try:
                answers = await loop.run_in_executor(self.pool, self.in_groups, texts)
            except Exception as error:
                for _, answer in requests:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            at = 0
            for request, answer in requests:
                if not answer.done():
                    answer.set_result(answers[at : at + len(request)])
                at += len(request)
        self.running = False

    def in_groups(self, texts):
        """Answers in the order of the texts. A group ends where its longest text would be padded too much."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        answers, group = [None] * len(texts), []

        def run():
            for at, answer in zip(group, self.classifier.best([texts[at] for at in group])):
                answers[at] = answer

        for at in order:
            if group:
                # Two tokens more are little work whatever the share.
                shortest = len(texts[group[0]])
                longest = max(self.slack * shortest, shortest + 2)
                if len(group) == self.largest or len(texts[at]) > longest:
                    run()
                    group.clear()
            group.append(at)
        run()
        return answers


def servicer(messages, service, classifier, mode):
    """PredictService over one of the modes."""
    names = [f"class_{at:02}_of_the_peer" for at in range(CLASSES)]

    def predictions(answers):
        scored, prediction = messages.ScoredClass, messages.Prediction
        return [
            prediction(classes=[scored(name=names[best], id=best + 1, probability=probability)], token_count=tokens)
            for best, probability, tokens in answers
        ]

    async def ask(request):
        return predictions(await mode.ask([classifier.encode(text) for text in request.texts]))

    class Servicer(service.PredictServiceServicer):
        async def Predict(self, request, context):
            return messages.PredictResponse(predictions=await ask(request), version=VERSION, manifest_revision=1)

        async def PredictStream(self, requests, context):
            # Several messages are worked on at once, as in taxond.
            tasks = asyncio.Queue(8)

            async def read():
                async for request in requests:
                    await tasks.put(asyncio.create_task(ask(request)))
                await tasks.put(None)

            reading = asyncio.create_task(read())
            try:
                while (task := await tasks.get()) is not None:
                    yield messages.PredictStreamResponse(predictions=await task, version=VERSION, manifest_revision=1)
            finally:
                reading.cancel()

    return Servicer()


async def serve(options):
    messages, service = stubs()
    with open(options.texts, newline="", encoding="utf-8") as file:
        words = Counter(word for row in csv.DictReader(file) for word in TOKEN.findall(row["text"].lower()))
    vocabulary = {word: at for at, (word, _) in enumerate(words.most_common(), 2)}
    classifier = Classifier(vocabulary, options.threads, options.spin)
    if options.mode == "plain":
        mode = Plain(classifier, options.threads)
    else:
        mode = Batching(classifier, options.largest, options.slack)
    server = grpc.aio.server()
    service.add_PredictServiceServicer_to_server(servicer(messages, service, classifier, mode), server)
    port = server.add_insecure_port(options.addr)
    await server.start()
    print(f"listening on {options.addr.rsplit(':', 1)[0]}:{port}", flush=True)
    await server.wait_for_termination()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--addr", default="127.0.0.1:50071", help="where to listen; port 0 takes a free one")
    parser.add_argument("--texts", required=True, metavar="CSV", help="its column text gives the vocabulary")
    parser.add_argument("--mode", choices=["plain", "batching"], default="batching")
    parser.add_argument("--threads", type=int, default=2, help="of ONNX Runtime within an operation")
    parser.add_argument("--spin", action="store_true", help="let its threads spin while they wait, as is its default")
    parser.add_argument("--largest", type=int, default=64, help="texts of a group of the batching mode")
    parser.add_argument("--slack", type=float, default=1.25, help="longest over shortest text of such a group")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
