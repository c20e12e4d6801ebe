#!/usr/bin/env python3
"""The training of a preset in PyTorch, beside taxond's own, and torch.nn.LSTM beside taxond's kernels.

    pip install torch numpy
    python benches/pytorch.py --train train.csv --threads 2 --rounds 3
    python benches/pytorch.py --train train.csv --device cuda:0 --preset seed --only-pytorch --json seed.json

Both train the same network on the same file by the same recipe on the same device, by turns; on a processor on the
same number of threads. taxond leaves its wide branch out, which is not here. PyTorch gets the best of what it offers:
packed sequences (cuDNN's on CUDA), fused AdamW, and the gradient of the embedding dense or sparse, whichever is the
faster here. Precision is PyTorch's default, so that cuDNN may use TF32. On CUDA batches are built on the host and
copied from pinned memory while the device computes. A short training that is not timed comes first.

Times are those of the training loop with an evaluation each epoch: of taxond the `deep` phase of the `study` example.
Prints one line a run, then medians and ratios (PyTorch / taxond: above 1, taxond is the faster). Needs a Rust
toolchain, as it runs `cargo`, unless `--taxond` names a built `study` or `--only-pytorch` leaves taxond out. The seed
preset here cuts Chinese into characters, not into words.
"""

import argparse
import csv
import json
import math
import os
import platform
import re
import statistics
import subprocess
import time
import unicodedata
from collections import Counter, namedtuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

# `both`: an LSTM each way, and as features the mean, the maximum of what is projected, and the mean input; else one LSTM from
# the end, and the mean alone.
Preset = namedtuple("Preset", "embedding hidden both max_tokens subwords epochs rate")
PRESETS = {
    "default": Preset(128, 128, both=True, max_tokens=128, subwords=True, epochs=12, rate=3e-3),
    "seed": Preset(300, 1000, both=False, max_tokens=30, subwords=False, epochs=8, rate=1e-3),
}
BATCH, POOL_BATCHES, MIN_COUNT = 64, 16, 2
EMBEDDING_RATE, DECAY, BETAS, CLIP, WARMUP = 5.0, 0.01, (0.9, 0.99), 1.0, 0.1
WORD_DROPOUT, FEATURE_DROPOUT, EMBEDDING_DROPOUT, OUTPUT_DROPOUT, SMOOTHING = 0.1, 0.2, 0.2, 0.4, 0.1

# Steps of the training that is not timed, and of those that choose the gradient.
UNTIMED, TRIED = 20, 40

# name, E, H, directions, T, B, as in benches/kernels.rs
SHAPES = [("seed", 300, 1000, 1, 30, 64), ("wide", 128, 256, 2, 20, 64), ("default", 128, 128, 2, 13, 64)]
IDEOGRAPH = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[{IDEOGRAPH}]|(?:(?![{IDEOGRAPH}_])\w)+|[^\w\s]|_")

# Encoded texts `(rows of all tokens, rows of each token, label)`, what they are of, and the network and its device.
Task = namedtuple("Task", "training validation vocabulary classes preset device")


def features(text, subwords):
    """The features of each token of a normal text: the word, its n-grams, and before an ideograph the pair."""
    before, result = None, []
    for token in TOKEN.findall(text):
        bag = [token]
        if subwords and len(token) > 1:
            bounded = f"<{token}>"
            bag += ["#" + bounded[at : at + n] for n in (3, 4, 5) for at in range(len(bounded) - n + 1)]
        if subwords and before and re.match(f"[{IDEOGRAPH}]", token):
            bag.append(f"{before} {token}")
        result.append(bag)
        before = token
    return result or [[]]


def normalise(text):
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def read(path, preset, device):
    """The task of learning a file: every tenth row validates."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [(normalise(row["text"]), row["category"]) for row in csv.DictReader(file)]
    training = [row for at, row in enumerate(rows) if at % 10]
    distinct = dict.fromkeys(text for text, _ in training)
    counts = Counter(feature for text in distinct for bag in features(text, preset.subwords) for feature in bag)
    vocabulary = {feature: at for at, feature in enumerate((f for f, n in counts.items() if n >= MIN_COUNT), 1)}
    classes = {label: at for at, label in enumerate(sorted({label for _, label in rows}))}

    def encode(row):
        text = features(row[0], preset.subwords)[: preset.max_tokens]
        bags = [[vocabulary[f] for f in bag if f in vocabulary] or [0] for bag in text]
        if not preset.both:
            bags.reverse()
        return np.concatenate(bags).astype(np.int64), np.array([len(bag) for bag in bags]), classes[row[1]]

    training = [encode(row) for row in training]
    validation = [encode(row) for at, row in enumerate(rows) if at % 10 == 0]
    return Task(training, validation, len(vocabulary) + 1, len(classes), preset, device)


def thinned(rows, bags, dropout):
    """Rows of tokens, so many each, without those that a dropout leaves out; no token goes without any."""
    starts = np.cumsum(bags) - bags
    kept = np.random.random(len(rows)) >= dropout
    left = np.add.reduceat(kept.astype(np.int64), starts)
    kept[starts[left == 0]] = True
    return rows[kept], np.maximum(left, 1)


class Batch:
    """Texts packed step by step, the longest first, on a device; a dropout leaves out features of tokens."""

    def __init__(self, texts, device, dropout=0.0):
        texts = sorted(texts, key=lambda text: -len(text[1]))
        lengths = np.array([len(text[1]) for text in texts])
        labels = np.array([text[2] for text in texts])
        # Tokens stand text by text; `order` says which of them is each packed one.
        step = np.concatenate([np.arange(length) for length in lengths])
        rank = np.repeat(np.arange(len(texts)), lengths)
        order = np.lexsort((rank, step))
        rows = np.concatenate([text[0] for text in texts])
        bags = np.concatenate([text[1] for text in texts])
        if dropout:
            rows, bags = thinned(rows, bags, dropout)
        starts, bags = (np.cumsum(bags) - bags)[order], bags[order]
        offsets = np.cumsum(bags) - bags
        rows = rows[np.repeat(starts - offsets, bags) + np.arange(len(rows))]
        # Where each packed token stands if every text has as many steps as the longest.
        cells = (step * len(texts) + rank)[order]
        parts = rows, offsets, rank[order], cells, lengths, labels
        # As one tensor, so that there is one copy.
        whole = torch.from_numpy(np.concatenate(parts))
        if device.type == "cuda":
            whole = whole.pin_memory().to(device, non_blocking=True)
        parts = whole.split([len(part) for part in parts])
        self.rows, self.offsets, self.rank, self.cells, self.lengths, self.labels = parts
        # Texts that run at each step; PyTorch wants them on the host.
        self.sizes = torch.from_numpy(np.bincount(step))


class Network(torch.nn.Module):
    def __init__(self, task, sparse):
        super().__init__()
        embedding, hidden, self.both, *_ = task.preset
        self.embedding = torch.nn.EmbeddingBag(task.vocabulary, embedding, mode="mean", sparse=sparse)
        torch.nn.init.normal_(self.embedding.weight, std=0.1)
        self.lstm = torch.nn.LSTM(embedding, hidden, bidirectional=self.both)
        for name, parameter in self.lstm.named_parameters():
            if "weight_ih" in name:
                torch.nn.init.xavier_uniform_(parameter)
            elif "weight_hh" in name:
                for gate in parameter.data.chunk(4):
                    torch.nn.init.orthogonal_(gate)
            else:
                torch.nn.init.zeros_(parameter)
                parameter.data[hidden : 2 * hidden] = 1.0 if "bias_ih" in name else 0.0
        if self.both:
            self.projection = torch.nn.Linear(2 * hidden + embedding, 2 * hidden)
            torch.nn.init.xavier_uniform_(self.projection.weight)
            torch.nn.init.zeros_(self.projection.bias)
        self.head = torch.nn.Linear(4 * hidden + embedding if self.both else hidden, task.classes)
        torch.nn.init.normal_(self.head.weight, std=self.head.in_features**-0.5)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, batch):
        x, texts = self.embedding(batch.rows, batch.offsets), len(batch.lengths)
        if self.training:
            columns = F.dropout(x.new_ones(texts, x.shape[1]), EMBEDDING_DROPOUT)
            words = torch.rand(len(x), 1, device=x.device) >= WORD_DROPOUT
            x = x * columns[batch.rank] * words
        states = self.lstm(PackedSequence(x, batch.sizes))[0].data

        def mean(rows):
            sums = rows.new_zeros(texts, rows.shape[1]).index_add(0, batch.rank, rows)
            return sums / batch.lengths[:, None]

        pooled = mean(states)
        if self.both:
            projected = self.projection(torch.cat([states, x], 1))
            cells = projected.new_full((len(batch.sizes) * texts, projected.shape[1]), -math.inf)
            cells = cells.index_copy(0, batch.cells, projected).view(len(batch.sizes), texts, -1)
            pooled = torch.cat([pooled, torch.tanh(cells.amax(0)), mean(x)], 1)
        return self.head(F.dropout(pooled, OUTPUT_DROPOUT, self.training))


class Trainer:
    def __init__(self, task, steps, sparse):
        self.device, self.peak, self.steps, self.step = task.device, task.preset.rate, steps, 0
        self.network = Network(task, sparse).to(task.device)
        self.table = table = self.network.embedding.weight
        rest = [p for p in self.network.parameters() if p is not table]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": DECAY, "pace": 1.0},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0, "pace": 1.0},
        ]
        rows = {"params": [table], "pace": EMBEDDING_RATE}
        self.optimisers = []
        if sparse:
            self.optimisers.append(torch.optim.SparseAdam([rows], betas=BETAS))
        else:
            groups.append(rows | {"weight_decay": 0.0})
        self.optimisers.append(torch.optim.AdamW(groups, betas=BETAS, fused=True))

    def rate(self):
        climb = max(WARMUP * self.steps, 1.0)
        if self.step < climb:
            return self.peak * (self.step + 1) / max(climb, self.step + 1)
        return self.peak * 0.5 * (1 + math.cos(math.pi * (self.step - climb) / max(self.steps - climb, 1.0)))

    def learn(self, texts):
        batch = Batch(texts, self.device, FEATURE_DROPOUT)
        loss = F.cross_entropy(self.network(batch), batch.labels, label_smoothing=SMOOTHING)
        loss.backward()
        if self.table.grad.is_sparse:
            self.table.grad = self.table.grad.coalesce()
        gradients = [p.grad.values() if p.grad.is_sparse else p.grad for p in self.network.parameters()]
        norm = torch.nn.utils.get_total_norm(gradients)
        scale = torch.clamp(CLIP / (norm + 1e-12), max=1.0)
        torch._foreach_mul_(gradients, scale)
        rate = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["pace"]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1

    def evaluate(self, texts):
        self.network.eval()
        with torch.inference_mode():
            ordered = sorted(texts, key=lambda text: len(text[1]))
            batches = (Batch(ordered[at : at + BATCH], self.device) for at in range(0, len(texts), BATCH))
            right = sum((self.network(batch).argmax(1) == batch.labels).sum() for batch in batches)
        self.network.train()
        return right.item() / len(texts)


def epoch(texts):
    """The batches of an epoch: shuffled, in pools sorted by length, the batches shuffled again."""
    order, size = np.random.permutation(len(texts)), BATCH * POOL_BATCHES
    batches = []
    for at in range(0, len(texts), size):
        pool = sorted(order[at : at + size], key=lambda text: len(texts[text][1]))
        batches += [pool[first : first + BATCH] for first in range(0, len(pool), BATCH)]
    return [[texts[text] for text in batches[at]] for at in np.random.permutation(len(batches))]


def now(device):
    """The time in seconds, once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def train(task, epochs, sparse, seed):
    """Measures a whole training. The time of a step is that of an epoch over its steps, the median of the epochs."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    steps = epochs * math.ceil(len(task.training) / BATCH)
    trainer, step_seconds = Trainer(task, steps, sparse), []
    began = now(task.device)
    for _ in range(epochs):
        epoch_began, first = now(task.device), trainer.step
        for batch in epoch(task.training):
            trainer.learn(batch)
        step_seconds.append((now(task.device) - epoch_began) / (trainer.step - first))
        accuracy = trainer.evaluate(task.validation)
    seconds = now(task.device) - began
    return {
        "train_seconds": seconds,
        "steps": steps,
        "examples_per_second": epochs * len(task.training) / seconds,
        "step_ms": 1e3 * statistics.median(step_seconds),
        "validation_accuracy": accuracy,
    }


def warm_up(task, sparse):
    """A short training, after which libraries are loaded and memory is at hand."""
    short = task._replace(training=task.training[: UNTIMED * BATCH], validation=task.validation[: 2 * BATCH])
    train(short, 1, sparse, 0)


def gradient_step_ms(task):
    """Median milliseconds of a step, each waited for, with a dense and with a sparse gradient of the embedding."""
    trainers, times = {}, {"dense": [], "sparse": []}
    for name in times:
        warm_up(task, name == "sparse")
        trainers[name] = Trainer(task, TRIED, name == "sparse")
    for batch in epoch(task.training)[:TRIED]:
        for name, trainer in trainers.items():
            began = now(task.device)
            trainer.learn(batch)
            times[name].append(1e3 * (now(task.device) - began))
    return {name: statistics.median(milliseconds) for name, milliseconds in times.items()}


def repeated(run, device, seconds=2.0):
    """Milliseconds of many runs: the median and the shortest."""
    for _ in range(3):
        run()
    times, end = [], now(device) + seconds
    while len(times) < 5 or time.perf_counter() < end:
        began = now(device)
        run()
        times.append(1e3 * (now(device) - began))
    return {"median_ms": statistics.median(times), "shortest_ms": min(times), "runs": len(times)}


def lstm_times(device):
    """Times of torch.nn.LSTM, by the names of benches/kernels.rs."""
    times = {}
    for name, embedding, hidden, directions, steps, texts in SHAPES:
        lstm = torch.nn.LSTM(embedding, hidden, bidirectional=directions == 2).to(device)
        lstm.eval()
        for batch in (texts, 32, 1):
            x = torch.randn(steps, batch, embedding, device=device)
            with torch.inference_mode():
                times[f"lstm {name} forward B={batch}"] = repeated(lambda: lstm(x), device)
        lstm.train()
        x = torch.randn(steps, texts, embedding, device=device, requires_grad=True)
        dy = torch.randn(steps, texts, directions * hidden, device=device)

        def both():
            lstm.zero_grad(set_to_none=True)
            x.grad = None
            lstm(x)[0].backward(dy)

        times[f"lstm {name} forward+backward B={texts}"] = repeated(both, device)
    return times


def last_json(threads, command):
    """The last line that a command prints, as JSON."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def study(options, seed):
    """What the study example says of a training of the same network, without the wide branch."""
    program = [options.taxond] if options.taxond else ["cargo", "run", "--release", "--example", "study", "--"]
    arguments = ["train", "--json", "--train", options.train, "--preset", options.preset, "--device", options.device]
    for setting in (f"epochs={options.epochs}", f"batch={BATCH}", "wide.epochs=0"):
        arguments += ["--set", setting]
    return last_json(options.threads, [*program, *arguments, "--seed", str(seed)])


def surroundings(options, task):
    """What the measurements depend on."""
    cuda = task.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(task.device) if cuda else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "threads": options.threads,
        "preset": options.preset,
        "epochs": options.epochs,
        "batch": BATCH,
        "training_examples": len(task.training),
        "validation_examples": len(task.validation),
        "vocabulary": task.vocabulary,
        "classes": task.classes,
    }


def said(seconds, report):
    speed, accuracy = report["examples_per_second"], report["validation_accuracy"]
    return f"{seconds:.2f} s ({speed:.0f} examples/s, validation {accuracy:.4f})"


def save(report, path):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def compare_training(options, task, sparse, report):
    """Trains by turns and prints; each round is in the report, and saved, as soon as it ends."""
    ours, theirs = [], []
    for seed in range(options.rounds):
        pytorch = train(task, options.epochs, sparse, seed)
        taxond = None if options.only_pytorch else study(options, seed)
        report["rounds"].append({"pytorch": pytorch, "taxond": taxond})
        save(report, options.json)
        theirs.append(pytorch["train_seconds"])
        line = f"round {seed + 1}: PyTorch {said(theirs[-1], pytorch)}, {pytorch['step_ms']:.2f} ms a step"
        if taxond:
            ours.append(taxond["phases"]["deep"])
            line += f"; taxond {said(ours[-1], taxond)}; ratio {theirs[-1] / ours[-1]:.2f}"
        print(line, flush=True)
    line = f"training, preset {options.preset}, {options.epochs} epochs: PyTorch {statistics.median(theirs):.2f} s"
    if ours:
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        line += f", taxond {statistics.median(ours):.2f} s, ratio {ratio:.2f}"
    print(line, flush=True)


def compare_kernels(options, device, report):
    """Measures the LSTM, beside taxond's where cargo can be asked, which has the processor's kernels only."""
    kernels = {}
    if device.type == "cpu" and not (options.only_pytorch or options.taxond):
        rows = last_json(options.threads, ["cargo", "bench", "--bench", "kernels", "--", "--json", "lstm"])
        kernels = {row["name"]: 1e3 * row["seconds"] for row in rows}
    report["lstm"] = lstm_times(device)
    for name, times in report["lstm"].items():
        line = f"{name}: PyTorch {times['median_ms']:.3f} ms, at best {times['shortest_ms']:.3f} ms"
        if name in kernels:
            line += f"; taxond at best {kernels[name]:.3f} ms, ratio {times['shortest_ms'] / kernels[name]:.2f}"
        print(line, flush=True)
    save(report, options.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, metavar="CSV", help="header text,category")
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N, of both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each, by turns")
    parser.add_argument("--epochs", type=int, help="those of the preset, 12 or 8, if absent")
    parser.add_argument("--no-kernels", action="store_true", help="leave the LSTM shapes out")
    parser.add_argument("--json", metavar="FILE", help="write all measurements here, anew after each round")
    without_cargo = parser.add_mutually_exclusive_group()
    without_cargo.add_argument("--only-pytorch", action="store_true", help="leave taxond out")
    without_cargo.add_argument("--taxond", metavar="STUDY", help="this built study example instead of cargo's")
    options = parser.parse_args()
    options.epochs = options.epochs or PRESETS[options.preset].epochs
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    torch.set_num_threads(options.threads)

    task = read(options.train, PRESETS[options.preset], device)
    report = surroundings(options, task)
    print(", ".join(f"{name} {value}" for name, value in report.items()), flush=True)
    milliseconds = gradient_step_ms(task)
    report |= {"gradient_step_ms": milliseconds, "rounds": []}
    dense, sparse = milliseconds["dense"], milliseconds["sparse"]
    print(f"PyTorch step: dense gradient {dense:.2f} ms, sparse {sparse:.2f} ms", flush=True)
    compare_training(options, task, sparse < dense, report)
    if not options.no_kernels:
        compare_kernels(options, device, report)


if __name__ == "__main__":
    main()
