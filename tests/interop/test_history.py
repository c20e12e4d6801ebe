"""Clients that know old classes, and the history of the changes: by RPC and by command."""

import pytest
from client import job, manifest, refused, registry, taxonomy
from conftest import LARGE, SMALL

TEXTS = ["我想取三万元现金", "please block my lost card", "what is my balance", "几点开门？"]


def test_a_client_of_an_old_revision_goes_on_as_ever(client, trained, taxond):
    bank = trained.removeprefix("models/")
    before = client.probabilities(trained, TEXTS)
    client.merge(trained, [SMALL, LARGE], "取款", learn=job.LEARN_NONE)
    client.rename(trained, "balance", "余额")
    answer = client.predict(trained, TEXTS, manifest_revision=1)
    assert [{c.name: c.probability for c in p.classes} for p in answer.predictions] == before
    assert (answer.manifest_revision, answer.version) == (1, f"{trained}/versions/3")
    assert not answer.unresolved

    client.add_classes(trained, ["loan"])
    client.remove(trained, ["余额"], learn=job.LEARN_NONE)
    answer = client.predict(trained, TEXTS, manifest_revision=1)
    assert [(c.name, c.silent, list(c.answered_under)) for c in answer.unresolved] == [("balance", True, [])]
    for prediction in answer.predictions:
        assert sum(c.probability for c in prediction.classes) == pytest.approx(1)
        assert [c.name for c in prediction.classes if c.newer] == ["loan"]
        assert "balance" not in [c.name for c in prediction.classes]
    [told] = taxond("predict", bank, TEXTS[0], "--revision", "1", "--top-k", "1000")
    assert told["manifest_revision"] == 1
    assert [c["name"] for c in told["classes"] if c["newer"]] == ["loan"]
    assert [c["name"] for c in told["unresolved"]] == ["balance"]

    with refused() as refusal:
        client.predict(trained, TEXTS, manifest_revision=77)
    assert refusal[0].resource.resource_name == f"{trained}/manifests/77"
    with refused() as refusal:
        client.predict(trained, TEXTS, manifest_revision=1, min_precision=0.9)
    assert "manifest_revision" in refusal[0].violations["min_precision"]


def test_the_history_tells_who_and_why_and_what_came_of_it(client, trained, taxond, monkeypatch):
    bank = trained.removeprefix("models/")
    monkeypatch.setenv("USER", "张伟")
    taxond("merge", bank, SMALL, LARGE, "--into", "取款", "--reason", "one counter")
    request = taxonomy.UndoChangeRequest(model=trained, reason="two counters again")
    client.taxonomy.UndoChange(request, metadata=[("taxond-user-bin", "Zoë".encode())])

    entries = client.taxonomy.GetHistory(taxonomy.GetHistoryRequest(model=trained)).entries
    assert [(e.revision, e.change) for e in entries] == [
        (3, manifest.CHANGE_KIND_UNDO),
        (2, manifest.CHANGE_KIND_MERGE),
        (1, manifest.CHANGE_KIND_CREATE),
    ]
    assert [(e.author, e.reason) for e in entries[:2]] == [("Zoë", "two counters again"), ("张伟", "one counter")]
    # Who trained did not say who it is.
    assert entries[2].author
    instant, learnt, *_ = entries[1].versions
    assert (instant.origin, learnt.origin) == (registry.VERSION_ORIGIN_INSTANT, registry.VERSION_ORIGIN_TRAINING)
    assert learnt.replaced_validation_accuracy == instant.validation_accuracy
    assert not entries[0].versions[0].HasField("validation_accuracy")

    told = taxond("history", bank)
    assert [(e["revision"], e["author"], e["change"]) for e in told[:2]] == [(3, "Zoë", "undo"), (2, "张伟", "merge")]
    told_accuracies = [v["validation_accuracy"] for v in told[1]["versions"]]
    assert told_accuracies == [v.validation_accuracy for v in entries[1].versions]
    assert [e["revision"] for e in taxond("history", bank, "--limit", "2")] == [3, 2]
    assert taxond("manifests", bank)[0]["author"] == "Zoë"
    [gone] = [c for c in taxond("classes", bank, "--all") if c["name"] == "取款"]
    assert sorted(gone["heirs"]) == sorted(c["id"] for c in taxond("classes", bank) if c["name"] in (SMALL, LARGE))

    with refused() as refusal:
        client.taxonomy.UndoChange(request, metadata=[("taxond-user", "x" * 129)])
    assert "got 129 bytes" in refusal[0].violations["taxond-user"]
    with refused() as refusal:
        client.taxonomy.UndoChange(request, metadata=[("taxond-user-bin", "ada\u202e".encode())])
    assert "U+202E" in refusal[0].violations["taxond-user-bin"]
    with refused() as refusal:
        client.taxonomy.UndoChange(request, metadata=[("taxond-user", "x via admin")])
    assert "behind which the history names" in refusal[0].violations["taxond-user"]
