"""Many texts: PredictStream from Python, and `taxond predict --file` on it."""

import csv
import io
import json
import subprocess
import threading

import grpc
import pytest
from client import Client, predict, refused
from conftest import LARGE, SMALL
from daemon import binary

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "what is my balance"]


@pytest.fixture(scope="module")
def bank(daemon, fresh_id, examples):
    with Client(daemon.address) as client:
        name = client.create(fresh_id("bulk"))
        client.add(name, examples)
        client.train(name, epochs=2)
        yield name


@pytest.fixture
def bulk(daemon, bank):
    """Runs `taxond predict BANK --file`; gives what it wrote and what it said."""

    def run(*arguments, stdin=b"", status=0, model=bank):
        command = [binary(), "--addr", f"http://{daemon.address}", "predict", model, *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True)
        assert done.returncode == status, done.stderr.decode()
        return done.stdout.decode(), done.stderr.decode()

    return run


def test_a_stream_answers_message_by_message_in_order(client, bank):
    sizes = [1, 0, 5, 256, 2] * 6
    texts = [[TEXTS[(i + n) % 4] for n in range(size)] for i, size in enumerate(sizes)]
    requests = [predict.PredictStreamRequest(texts=texts[i]) for i in range(len(sizes))]
    requests[0].model = bank
    responses = list(client.predictions.PredictStream(iter(requests)))
    best = dict(zip(TEXTS, client.predict(bank, TEXTS, top_k=1).predictions))
    assert [list(r.predictions) for r in responses] == [[best[text] for text in message] for message in texts]
    assert {r.version for r in responses} == {f"{bank}/versions/1"}


def test_a_wrong_message_comes_after_the_answers_before_it(client, bank):
    requests = [
        predict.PredictStreamRequest(model=bank, texts=TEXTS),
        predict.PredictStreamRequest(texts=TEXTS),
        predict.PredictStreamRequest(texts=["fine", ""]),
        predict.PredictStreamRequest(texts=TEXTS),
    ]
    answered = []
    with refused() as refusal:
        for response in client.predictions.PredictStream(iter(requests)):
            answered.append(len(response.predictions))
    assert answered == [4, 4]
    assert refusal[0].code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal[0].violations) == ["messages[2].texts[1]"]


def test_a_stream_that_is_cancelled_ends_and_harms_nobody(client, bank):
    def endless():
        while True:
            yield predict.PredictStreamRequest(model=bank, texts=TEXTS * 64)

    stream = client.predictions.PredictStream(endless())
    assert len(next(stream).predictions) == 256
    stream.cancel()
    assert len(client.predict(bank, TEXTS).predictions) == 4


def test_rows_of_csv_come_back_with_their_answers(client, bank, bulk, tmp_path):
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.csv"
    texts = (TEXTS * 150)[:599]
    with questions.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([n, text + ', "quoted"\nand more', "x"] for n, text in enumerate(texts))
    printed, said = bulk("--file", questions, "--out", answers)
    assert printed == "" and "599 texts in" in said and "answered by version 1 of" in said
    with answers.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(n) for n in range(599)]
    asked = [text + ', "quoted"\nand more' for text in TEXTS]
    best = [p.classes[0] for p in client.predict(bank, asked, top_k=1).predictions]
    for n, row in enumerate(rows):
        assert (row["text"], row["label"], row["version"]) == (asked[n % 4], "x", "1")
        assert (row["predicted_label"], float(row["score"])) == (best[n % 4].name, best[n % 4].probability)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "questions.csv"]


def test_other_layouts_keep_theirs(client, bank, bulk, tmp_path):
    best = [p.classes[0] for p in client.predict(bank, TEXTS, top_k=1).predictions]
    lines = tmp_path / "questions.jsonl"
    lines.write_text("".join(json.dumps({"n": n, "text": t}) + "\n" for n, t in enumerate(TEXTS)), encoding="utf-8")
    printed, _ = bulk("--file", lines)
    expected = [
        {"n": n, "text": text, "label": c.name, "score": c.probability, "version": 1}
        for n, (text, c) in enumerate(zip(TEXTS, best))
    ]
    assert [json.loads(line) for line in printed.splitlines()] == expected

    printed, _ = bulk("--file", "-", stdin="\n".join(TEXTS).encode())
    plain = [f"{text}\t{c.name}\t{c.probability}\t1" for text, c in zip(TEXTS, best)]
    assert printed.splitlines() == plain

    table = "text\tn\n" + "".join(f"{text}\t{n}\n" for n, text in enumerate(TEXTS))
    printed, _ = bulk("--file", "-", "--format", "tsv", "--min-precision", "0", stdin=table.encode())
    rows = list(csv.DictReader(io.StringIO(printed), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["label"] for row in rows] == [c.name for c in best]
    assert {row["rejected"] for row in rows} == {"false"}

    printed, said = bulk("--json", "--top-k", "2", "--file", lines)
    documents = [json.loads(line) for line in printed.splitlines()]
    assert said == "" and [d["text"] for d in documents] == TEXTS
    assert [d["classes"][0]["name"] for d in documents] == [c.name for c in best]
    assert all(len(d["classes"]) == 2 and d["version"] == f"{bank}/versions/1" for d in documents)


def test_what_is_wrong_with_a_file_is_said_before_anything_is_written(bulk, bank, tmp_path):
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.csv"
    questions.write_text("text,n\nhello,1\n,2\n", encoding="utf-8")
    printed, said = bulk("--file", questions, "--out", answers, status=4)
    assert "row 3: the text is empty" in said and "--skip-bad" in said
    assert not answers.exists()
    printed, said = bulk("--file", questions, "--skip-bad")
    assert len(printed.splitlines()) == 2 and "row 3" in said and "1 bad rows skipped" in said
    _, said = bulk("--file", tmp_path / "nowhere.csv", status=3)
    assert "nowhere.csv" in said
    _, said = bulk("--file", questions, "--skip-bad", "--top-k", "2", status=2)
    assert "--json" in said


def test_a_failure_says_how_many_rows_were_written(bulk, tmp_path):
    answers = tmp_path / "answers.txt"
    answers.write_text("old", encoding="utf-8")
    _, said = bulk("--file", "-", "--out", answers, stdin=b"hello\n", status=3, model="models/none")
    assert "'models/none' not found" in said and "0 rows were written to" in said
    assert answers.read_text(encoding="utf-8") == "old"


def test_a_merge_shows_in_the_rows_after_it(client, fresh_id, examples, bulk):
    name = client.create(fresh_id("swap"))
    client.add(name, examples)
    client.train(name, epochs=2)

    answered = threading.Event()

    def messages():
        yield predict.PredictStreamRequest(model=name, texts=TEXTS)
        # The client runs ahead of the answers: a merge right away might come before the first of them.
        assert answered.wait(60), "the first answer did not come"
        client.merge(name, [SMALL, LARGE], "取款", learn="LEARN_NONE")
        yield predict.PredictStreamRequest(texts=TEXTS)

    responses = []
    for response in client.predictions.PredictStream(messages()):
        responses.append(response)
        answered.set()
    assert [(r.version, r.manifest_revision) for r in responses] == [(f"{name}/versions/1", 1), (f"{name}/versions/2", 2)]
    printed, _ = bulk("--file", "-", stdin=TEXTS[0].encode(), model=name)
    assert printed.split("\t")[1:] and printed.strip().endswith("\t2")
