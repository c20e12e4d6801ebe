"""Text keeps its characters on every way through the daemon, whose own locale is C in these tests."""

import json
import os
import subprocess
import unicodedata

import pytest
from client import dataset
from conftest import LARGE, SMALL
from daemon import binary

TEXTS = ["取款３万５", "café naïve", "emoji 🏦 inside", "a\u0301 composed later", "right \u05e9\u05dc\u05d5\u05dd to left"]


def test_texts_and_labels_come_back_as_they_were_sent(client, fresh_id):
    name = client.create(fresh_id())
    decomposed = unicodedata.normalize("NFD", "Überweisung")
    client.add(name, [(text, decomposed) for text in TEXTS])
    stored = client.dataset.ListExamples(dataset.ListExamplesRequest(model=name)).examples
    assert [e.text for e in stored] == TEXTS
    # Names of classes are composed (NFC), so that equal names are equal bytes.
    assert {e.label for e in stored} == {unicodedata.normalize("NFC", decomposed)}
    listed = client.dataset.ListExamples(dataset.ListExamplesRequest(model=name, label=decomposed)).examples
    assert len(listed) == len(TEXTS)


def test_width_and_case_make_no_difference_to_the_answer(client, trained):
    plain, wide = client.probabilities(trained, ["取款3万5 please block", "取款３万５ PLEASE ＢＬＯＣＫ"])
    assert wide == plain


def test_classes_are_found_by_any_form_of_their_name_and_by_id(client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, [(text, label.replace("balance", "sólo saldo")) for text, label in examples])
    client.train(name, epochs=1)
    ids = {c.name: c.id for c in client.manifest(name).classes}
    decomposed = unicodedata.normalize("NFD", "sólo saldo")
    [preview] = client.merge(name, [decomposed, f"#{ids[SMALL]}"], "both", validate_only=True)
    merged = {c.name: set(c.leaves) for c in preview.preview.manifest.classes if c.leaves}
    assert "both" in merged and not {"sólo saldo", SMALL} & set(merged)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_command_line_prints_utf_8_in_any_locale(daemon, client, trained, locale):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))} | {"LC_ALL": locale}

    def taxond(*arguments):
        return subprocess.run(
            [binary(), "--addr", f"http://{daemon.address}", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        ).stdout.decode()

    bank = trained.removeprefix("models/")
    assert SMALL in taxond("classes", bank)
    assert LARGE in taxond("predict", bank, "我想取三万元现金", "--top-k", "6")
    answer = json.dumps(json.loads(taxond("--json", "predict", bank, "我想取三万元现金", "--top-k", "6")), ensure_ascii=False)
    assert LARGE in answer
