#!/usr/bin/env python3
"""The training of the default preset in PyTorch, beside taxond's own, and torch.nn.LSTM beside taxond's kernels.

    pip install torch numpy
    python benches/pytorch.py --train train.csv --threads 2 --rounds 3

Both train the same network on the same file by the same recipe on the same number of threads, by turns. PyTorch gets
the best of what it offers on a processor: packed sequences, fused AdamW, and the gradient of the embedding dense or
sparse, whichever is the faster here. Its time is that of the training loop with an evaluation each epoch; taxond's
is the `train_seconds` of the `study` example, which also builds the vocabulary and encodes the texts.

Needs a Rust toolchain, as it runs `cargo`. Prints one line a run, then medians and ratios (PyTorch / taxond: above 1,
taxond is the faster).
"""

import argparse
import csv
import json
import math
import os
import re
import statistics
import subprocess
import time
import unicodedata
from collections import Counter

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

EMBEDDING, HIDDEN, BATCH, POOL_BATCHES = 128, 128, 64, 16
RATE, EMBEDDING_RATE, DECAY, BETAS, CLIP, WARMUP = 3e-3, 5.0, 0.01, (0.9, 0.99), 1.0, 0.1
WORD_DROPOUT, EMBEDDING_DROPOUT, OUTPUT_DROPOUT, SMOOTHING = 0.1, 0.2, 0.4, 0.1
MAX_TOKENS, MIN_COUNT = 128, 2

# name, E, H, directions, T, B, as in benches/kernels.rs
SHAPES = [("seed", 300, 1000, 1, 30, 64), ("wide", 128, 256, 2, 20, 64), ("default", 128, 128, 2, 13, 64)]
IDEOGRAPH = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[{IDEOGRAPH}]|(?:(?![{IDEOGRAPH}_])\w)+|[^\w\s]|_")


def features(text):
    """The features of each token of a text: the word, its n-grams, and before an ideograph the pair of tokens."""
    before, result = None, []
    for token in TOKEN.findall(unicodedata.normalize("NFKC", text).lower())[:MAX_TOKENS]:
        bag = [token]
        if len(token) > 1:
            bounded = f"<{token}>"
            bag += ["#" + bounded[at : at + n] for n in (3, 4, 5) for at in range(len(bounded) - n + 1)]
        if before and re.match(f"[{IDEOGRAPH}]", token):
            bag.append(f"{before} {token}")
        result.append(bag)
        before = token
    return result or [[]]


def read(path):
    """Encoded texts and labels, and the sizes of the vocabulary and of the label set."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [(features(row["text"]), row["category"]) for row in csv.DictReader(file)]
    training = [row for at, row in enumerate(rows) if at % 10]
    counts = Counter(feature for text, _ in training for bag in text for feature in bag)
    vocabulary = {feature: at for at, feature in enumerate((f for f, n in counts.items() if n >= MIN_COUNT), 1)}
    classes = {label: at for at, label in enumerate(sorted({label for _, label in rows}))}

    def encode(row):
        bags = [[vocabulary[f] for f in bag if f in vocabulary] or [0] for bag in row[0]]
        return np.concatenate(bags).astype(np.int64), np.array([len(bag) for bag in bags]), classes[row[1]]

    training = [encode(row) for row in training]
    validation = [encode(row) for at, row in enumerate(rows) if at % 10 == 0]
    return training, validation, len(vocabulary) + 1, len(classes)


class Batch:
    """Texts packed step by step, the longest first."""

    def __init__(self, texts):
        texts = sorted(texts, key=lambda text: -len(text[1]))
        lengths = np.array([len(text[1]) for text in texts])
        self.lengths = torch.from_numpy(lengths)
        self.labels = torch.tensor([text[2] for text in texts])
        self.sizes = torch.from_numpy((lengths[:, None] > np.arange(lengths[0])).sum(0))
        self.rows = torch.from_numpy(np.concatenate([text[0] for text in texts]))
        bags = np.concatenate([text[1] for text in texts])
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(bags)[:-1]]))
        # Tokens stand text by text; `order` says which of them is each packed row, `rank` of which text it is.
        step = np.concatenate([np.arange(length) for length in lengths])
        rank = np.repeat(np.arange(len(texts)), lengths)
        order = np.lexsort((rank, step))
        self.order, self.rank = torch.from_numpy(order), torch.from_numpy(rank[order])


class Network(torch.nn.Module):
    def __init__(self, vocabulary, classes, sparse):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(vocabulary, EMBEDDING, mode="mean", sparse=sparse)
        torch.nn.init.normal_(self.embedding.weight, std=0.1)
        self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN, bidirectional=True)
        for name, parameter in self.lstm.named_parameters():
            if "weight_ih" in name:
                torch.nn.init.xavier_uniform_(parameter)
            elif "weight_hh" in name:
                for gate in parameter.data.chunk(4):
                    torch.nn.init.orthogonal_(gate)
            else:
                torch.nn.init.zeros_(parameter)
                parameter.data[HIDDEN : 2 * HIDDEN] = 1.0 if "bias_ih" in name else 0.0
        self.head = torch.nn.Linear(4 * HIDDEN + EMBEDDING, classes)

    def forward(self, batch):
        x = self.embedding(batch.rows, batch.offsets)[batch.order]
        if self.training:
            columns = F.dropout(torch.ones(len(batch.lengths), EMBEDDING), EMBEDDING_DROPOUT)
            words = torch.rand(len(x), 1) >= WORD_DROPOUT
            x = x * columns[batch.rank] * words
        states, _ = self.lstm(PackedSequence(x, batch.sizes))
        count = batch.lengths[:, None]
        mean = torch.zeros(len(count), 2 * HIDDEN).index_add(0, batch.rank, states.data) / count
        padded, _ = pad_packed_sequence(states, padding_value=-math.inf)
        tokens = torch.zeros(len(count), EMBEDDING).index_add(0, batch.rank, x) / count
        pooled = torch.cat([mean, padded.amax(0), tokens], 1)
        return self.head(F.dropout(pooled, OUTPUT_DROPOUT, self.training))


class Trainer:
    def __init__(self, vocabulary, classes, steps, sparse):
        self.network, self.steps, self.step = Network(vocabulary, classes, sparse), steps, 0
        table = self.network.embedding.weight
        rest = [p for p in self.network.parameters() if p is not table]
        matrices, biases = [p for p in rest if p.dim() > 1], [p for p in rest if p.dim() == 1]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}]
        self.optimisers = []
        if sparse:
            self.optimisers.append(torch.optim.SparseAdam([table], betas=BETAS))
        else:
            groups.append({"params": [table], "weight_decay": 0.0})
        self.optimisers.append(torch.optim.AdamW(groups, betas=BETAS, fused=True))
        self.table = table

    def rate(self):
        climb = max(WARMUP * self.steps, 1.0)
        if self.step < climb:
            return RATE * (self.step + 1) / max(climb, self.step + 1)
        return RATE * 0.5 * (1 + math.cos(math.pi * (self.step - climb) / max(self.steps - climb, 1.0)))

    def learn(self, texts):
        batch = Batch(texts)
        loss = F.cross_entropy(self.network(batch), batch.labels, label_smoothing=SMOOTHING)
        loss.backward()
        gradients = [p.grad for p in self.network.parameters()]
        if self.table.grad.is_sparse:
            self.table.grad = self.table.grad.coalesce()
            gradients = [g.values() if g.is_sparse else g for g in (p.grad for p in self.network.parameters())]
        norm = torch.nn.utils.get_total_norm(gradients)
        scale = torch.clamp(CLIP / (norm + 1e-12), max=1.0)
        torch._foreach_mul_(gradients, scale)
        rate = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * (EMBEDDING_RATE if self.table in set(group["params"]) else 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1

    def evaluate(self, texts):
        self.network.eval()
        with torch.inference_mode():
            ordered = sorted(texts, key=lambda text: len(text[1]))
            batches = [Batch(ordered[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
            right = sum((self.network(batch).argmax(1) == batch.labels).sum().item() for batch in batches)
        self.network.train()
        return right / len(texts)


def epoch(texts):
    """The batches of an epoch: shuffled, in pools sorted by length, the batches shuffled again."""
    order, size = np.random.permutation(len(texts)), BATCH * POOL_BATCHES
    batches = []
    for at in range(0, len(texts), size):
        pool = sorted(order[at : at + size], key=lambda text: len(texts[text][1]))
        batches += [pool[first : first + BATCH] for first in range(0, len(pool), BATCH)]
    return [[texts[text] for text in batches[at]] for at in np.random.permutation(len(batches))]


def train(data, epochs, sparse):
    """Seconds and the last validation accuracy of a whole training."""
    training, validation, vocabulary, classes = data
    began = time.perf_counter()
    trainer = Trainer(vocabulary, classes, epochs * math.ceil(len(training) / BATCH), sparse)
    for _ in range(epochs):
        for batch in epoch(training):
            trainer.learn(batch)
        accuracy = trainer.evaluate(validation)
    return time.perf_counter() - began, accuracy


def faster_gradient(data):
    """Whether the sparse gradient of the embedding is the faster one, by some steps of each."""
    training, _, vocabulary, classes = data
    batches, seconds = epoch(training)[:40], {}
    for sparse in (False, True):
        trainer = Trainer(vocabulary, classes, len(batches), sparse)
        times = []
        for batch in batches:
            began = time.perf_counter()
            trainer.learn(batch)
            times.append(time.perf_counter() - began)
        seconds[sparse] = statistics.median(times)
    print(f"PyTorch step: dense gradient {seconds[False] * 1e3:.1f} ms, sparse {seconds[True] * 1e3:.1f} ms", flush=True)
    return seconds[True] < seconds[False]


def best(run, seconds=2.0):
    """The shortest of many runs."""
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def lstm_seconds():
    """Shortest seconds of torch.nn.LSTM, by the names of benches/kernels.rs."""
    seconds = {}
    for name, embedding, hidden, directions, steps, texts in SHAPES:
        lstm = torch.nn.LSTM(embedding, hidden, bidirectional=directions == 2)
        for batch in (texts, 32, 1):
            x = torch.randn(steps, batch, embedding)
            with torch.inference_mode():
                seconds[f"lstm {name} forward B={batch}"] = best(lambda: lstm(x))
        x = torch.randn(steps, texts, embedding, requires_grad=True)
        dy = torch.randn(steps, texts, directions * hidden)

        def both():
            lstm.zero_grad(set_to_none=True)
            x.grad = None
            lstm(x)[0].backward(dy)

        seconds[f"lstm {name} forward+backward B={texts}"] = best(both)
    return seconds


def cargo(threads, *arguments):
    """The last line of a cargo run, as JSON."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(["cargo", *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, metavar="CSV", help="header text,category")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each, by turns")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--no-kernels", action="store_true", help="leave the LSTM shapes out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    np.random.seed(0)

    data = read(options.train)
    sparse = faster_gradient(data)
    study = ["run", "--release", "--example", "study", "--", "train", "--json"]
    study += ["--train", options.train, "--epochs", str(options.epochs)]
    ours, theirs = [], []
    for round in range(options.rounds):
        report = cargo(options.threads, *study, "--seed", str(round))
        ours.append(report["train_seconds"])
        seconds, accuracy = train(data, options.epochs, sparse)
        theirs.append(seconds)
        print(
            f"round {round + 1}: taxond {ours[-1]:.1f} s (validation {report['validation_accuracy']:.4f}), "
            f"PyTorch {seconds:.1f} s (validation {accuracy:.4f}), ratio {seconds / ours[-1]:.2f}",
            flush=True,
        )
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    print(
        f"training, {options.epochs} epochs, {options.threads} threads: taxond {statistics.median(ours):.1f} s, "
        f"PyTorch {statistics.median(theirs):.1f} s, ratio {ratio:.2f}",
        flush=True,
    )
    if options.no_kernels:
        return
    kernels = {row["name"]: row["seconds"] for row in cargo(options.threads, "bench", "--bench", "kernels", "--", "--json", "lstm")}
    for name, seconds in lstm_seconds().items():
        print(f"{name}: taxond {kernels[name] * 1e3:.2f} ms, PyTorch {seconds * 1e3:.2f} ms, ratio {seconds / kernels[name]:.2f}")


if __name__ == "__main__":
    main()
