"""Labels of stored examples are corrected, by a Python client and from the command line."""

import grpc
from client import dataset, refused
from conftest import LARGE, SMALL


def counts(client, name):
    return {label.label: label.train + label.validation for label in client.stats(name).labels}


def test_labels_are_corrected_and_examples_removed(client, trained, examples):
    chosen = {"class_name": SMALL, "text_contains": "取"}
    matching = [text for text, label in examples if label == SMALL and "取" in text]
    listed = client.examples(trained, **chosen)
    assert [e.text for e in listed] == matching
    tried = client.relabel(trained, LARGE, chosen, validate_only=True)
    assert (tried.relabelled, tried.class_name, tried.total) == (len(matching), LARGE, len(examples))
    before = counts(client, trained)
    done = client.relabel(trained, LARGE, chosen, request_id=f"{trained}-mend")
    assert done == tried
    after = counts(client, trained)
    assert (after.get(SMALL, 0), after[LARGE]) == (before[SMALL] - len(matching), before[LARGE] + len(matching))
    assert client.relabel(trained, LARGE, chosen, request_id=f"{trained}-mend") == done, "not done twice"
    ids = [e.id for e in listed]
    assert [(e.id, e.label) for e in client.examples(trained, ids=ids)] == [(id, LARGE) for id in ids]

    gone = client.delete_examples(trained, {"ids": ids})
    assert (gone.deleted, gone.total) == (len(ids), len(examples) - len(ids))
    with refused() as refusal:
        client.delete_examples(trained, {"ids": ids[:1]})
    assert refusal[0].code == grpc.StatusCode.NOT_FOUND
    assert client.model(trained).example_count == gone.total


def test_a_wrong_label_is_suggested_and_mended_from_the_command_line(client, fresh_id, examples, taxond):
    name = client.create(fresh_id("noisy"))
    bank = name.removeprefix("models/")
    branches = [(f"is branch number {n} in the city open", "branches") for n in range(120)]
    total = client.add(name, examples + branches).total
    [victim] = [e for e in client.examples(name, label="branches") if "number 50 " in e.text]
    wrong = examples[0][1]
    taxond("examples", "relabel", bank, "--ids", str(victim.id), "--to", wrong, "--yes")
    client.train(name, seed=7, epochs=3)
    answer = client.suggest_relabels(name, min_confidence=0.3, limit=1000)
    assert answer.examples == total
    [found] = [s for s in answer.suggestions if s.example.id == victim.id]
    assert (found.example.label, found.answer) == (wrong, victim.label)
    assert found.probability > found.label_probability

    [told] = taxond("suggest", bank, "--labels", "--min-confidence", "0.3", "--limit", "1000")
    assert victim.id in [s["example"]["id"] for s in told["suggestions"]]
    assert told["contradicted"] == answer.contradicted
    [tried] = taxond("examples", "relabel", bank, "--ids", str(victim.id), "--to", found.answer, "--dry-run")
    assert (tried["dry_run"], tried["relabelled"], tried["class_name"]) == (True, 1, victim.label)
    assert client.examples(name, ids=[victim.id])[0].label == wrong
    taxond("examples", "relabel", bank, "--ids", str(victim.id), "--to", found.answer, "--yes")
    victim.class_name = victim.label
    assert list(client.examples(name, ids=[victim.id])) == [victim]


def test_conflicts_are_shown_and_settled_from_the_command_line(client, trained, examples, taxond):
    bank = trained.removeprefix("models/")
    text, label = examples[0]
    other = next(other for _, other in examples if other != label)
    client.add(trained, [(f" {text.upper()} ", other)])
    [stats] = taxond("examples", "stats", bank)
    assert stats["conflicts"] == 1
    [conflict] = stats["first_conflicts"]
    assert conflict["text"] == text
    assert [(e["label"], e["class_name"]) for e in conflict["examples"]] == [(label, label), (other, other)]
    listed = taxond("examples", "list", bank, "--conflicting")
    assert [e["id"] for e in listed] == [e["id"] for e in conflict["examples"]]

    # Nobody is there to be asked.
    [refusal] = taxond("examples", "delete", bank, "--conflicting", "--label", other, status=2)
    assert "1 example" in refusal["error"]["message"] and "--yes" in refusal["error"]["hint"]
    [refusal] = taxond("examples", "delete", bank, "--yes", status=4)
    assert "filter" in refusal["error"]["message"]
    [done] = taxond("examples", "delete", bank, "--conflicting", "--label", other, "--yes")
    assert (done["deleted"], done["total"]) == (1, len(examples))
    [nothing] = taxond("examples", "delete", bank, "--conflicting")
    assert nothing["deleted"] == 0
    assert taxond("examples", "stats", bank)[0]["conflicts"] == 0
    [done] = taxond("examples", "delete", bank, "--all", "--yes")
    assert (done["deleted"], done["total"]) == (len(examples), 0)
    assert dataset.GetStatsResponse() == client.stats(trained)
