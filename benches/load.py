#!/usr/bin/env python3
"""The load benchmark: taxond, a server that only echoes, and a Python server on ONNX Runtime, by turns.

    pip install grpcio grpcio-tools onnx onnxruntime numpy
    cargo build --release --bin taxond --example load
    python benches/load.py --train train.csv --texts test.csv --json load.json

Starts the servers, trains a model through taxond's command line, and runs the scenarios of the `load` example: in each
round every scenario once on each server, one after the other, in an order that turns from round to round. Prints a line
a run, then medians and ratios. docs/performance.md says what the scenarios are.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SCENARIOS = ["c1", "c16", "c64", "mix64", "b32", "stream"]
SERVERS = ["taxond", "echo", "batching", "plain"]
MODEL = "bank"


class Server:
    """A process that prints `listening on ADDRESS`."""

    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.stop()
            raise SystemExit(f"{command[0]} did not start: {line!r}; see {log.name}")
        self.address = line.removeprefix("listening on ").strip()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(name, options, folder):
    log = open(os.path.join(folder, f"{name}.log"), "w", encoding="utf-8")
    if name == "taxond":
        data = os.path.join(folder, "data")
        return Server([options.taxond, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, *options.serve], log)
    if name == "echo":
        return Server([options.load, "serve-echo", "--addr", "127.0.0.1:0"], log)
    script = [sys.executable, os.path.join(HERE, "serve_onnx.py"), "--addr", "127.0.0.1:0"]
    return Server([*script, "--texts", options.train, "--mode", name, *(["--spin"] if options.spin else [])], log)


def learn(options, address):
    """Makes the model and trains it."""
    for arguments in (["create", MODEL], ["examples", "add", MODEL, options.train], ["train", MODEL]):
        command = [options.taxond, *arguments, "--addr", f"http://{address}", "--json"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def measure(options, server, scenario, *more):
    command = [options.load, "--addr", server.address, "--model", MODEL, "--file", options.texts]
    command += ["--scenario", scenario, "--seconds", str(options.seconds), "--warmup", str(options.warmup)]
    command += ["--pid", str(server.process.pid), "--json", *more]
    busy = os.getloadavg()[0]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout) | {"load_before": busy}


def said(run):
    line = f"{run['requests_per_second']:9.0f} requests/s {run['texts_per_second']:9.0f} texts/s"
    line += f"  p50 {run['p50_ms']:8.3f}  p99 {run['p99_ms']:8.3f}  p99.9 {run['p999_ms']:8.3f} ms"
    line += f"  generator {run['generator_cpu_share']:.2f} cores" if run["generator_cpu_share"] is not None else ""
    for failure in ("errors", "exhausted", "not_sent"):
        line += f"  {run[failure]} {failure}" if run.get(failure) else ""
    if "health" in run:
        line += f"  health p99 {run['health']['p99_ms']:.3f}, at most {run['health']['max_ms']:.3f} ms"
    return line


def medians(runs):
    """By server and scenario, the medians of what was measured."""
    result = {}
    for run in runs:
        result.setdefault(run["server"], {}).setdefault(run["scenario"], []).append(run)
    keys = ("requests_per_second", "texts_per_second", "p50_ms", "p99_ms", "p999_ms", "server_rss_bytes")

    def middle(rounds, key):
        known = [run[key] for run in rounds if run[key] is not None]
        return statistics.median(known) if known else None

    return {
        server: {name: {key: middle(rounds, key) for key in keys} for name, rounds in scenarios.items()}
        for server, scenarios in result.items()
    }


def ratios(runs):
    """Texts a second of taxond over those of each other server in the same round: the median, by server and scenario."""
    speed = {(run["server"], run["scenario"], run["round"]): run["texts_per_second"] for run in runs}
    result = {}
    for (server, scenario, at), theirs in speed.items():
        if server != "taxond" and ("taxond", scenario, at) in speed:
            ours = speed["taxond", scenario, at]
            result.setdefault(server, {}).setdefault(scenario, []).append(ours / theirs)
    return {s: {name: statistics.median(found) for name, found in by.items()} for s, by in result.items()}


def table(report):
    """The medians as a table of Markdown."""
    yield "| scenario | server | requests/s | texts/s | p50 ms | p99 ms | p99.9 ms | RSS MiB | taxond / server |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for scenario in [*SCENARIOS, "overload"]:
        for server, scenarios in report["medians"].items():
            if scenario not in scenarios:
                continue
            of = scenarios[scenario]
            ratio = report["ratios"].get(server, {}).get(scenario)
            cells = [f"{of['requests_per_second']:.0f}", f"{of['texts_per_second']:.0f}"]
            cells += [f"{of[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms")]
            cells += [f"{of['server_rss_bytes'] / 2**20:.0f}" if of["server_rss_bytes"] else ""]
            cells += [f"{ratio:.2f}" if ratio else ""]
            yield f"| {scenario} | {server} | " + " | ".join(cells) + " |"


def save(report, path):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def compare(options, servers, report):
    def note(name, at, run):
        report["runs"].append(run | {"server": name, "round": at})
        report["medians"], report["ratios"] = medians(report["runs"]), ratios(report["runs"])
        save(report, options.json)
        print(f"{at + 1} {run['scenario']:8} {name:8} {said(run)}", flush=True)

    names = list(servers)
    for at in range(options.rounds):
        for scenario in options.scenarios:
            for name in names[at % len(names) :] + names[: at % len(names)]:
                note(name, at, measure(options, servers[name], scenario))
        if "taxond" in servers and options.overload > 0:
            # The same texts at 64 at once tell what it can do.
            known = report["medians"].get("taxond", {}).get("mix64")
            known = known or measure(options, servers["taxond"], "mix64")
            rate = str(options.overload * known["requests_per_second"])
            note("taxond", at, measure(options, servers["taxond"], "overload", "--rate", rate, "--health"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, metavar="CSV", help="header text,category")
    parser.add_argument("--texts", required=True, metavar="CSV", help="what is asked: header text,category")
    parser.add_argument("--taxond", default="target/release/taxond", metavar="PATH")
    parser.add_argument("--load", default="target/release/examples/load", metavar="PATH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--warmup", type=float, default=2, help="seconds before each run that do not count")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--overload", type=float, default=2, help="rate of overload, in those of mix64; 0 leaves it out")
    parser.add_argument("--spin", action="store_true", help="let the threads of ONNX Runtime spin while they wait")
    parser.add_argument("--serve", action="append", default=[], metavar="FLAG", help="for taxond serve: --serve=--threads=2")
    parser.add_argument("--json", metavar="FILE", help="write all measurements here, anew after each run")
    options = parser.parse_args()

    report = {"machine": platform.platform(), "cores": os.cpu_count(), "seconds": options.seconds, "runs": []}
    with tempfile.TemporaryDirectory(prefix="taxond-load-") as folder, contextlib.ExitStack() as running:
        servers = {}
        for name in options.servers:
            servers[name] = start(name, options, folder)
            running.callback(servers[name].stop)
        if "taxond" in servers:
            learn(options, servers["taxond"].address)
        compare(options, servers, report)
    print("\n" + "\n".join(table(report)))


if __name__ == "__main__":
    main()
