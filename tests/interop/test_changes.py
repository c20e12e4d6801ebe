"""Changes of the classes, each by its RPC and by its command: right at once, and undone exactly."""

import json

import pytest
from client import job, manifest, registry
from conftest import LARGE, SMALL

LOST = "挂失银行卡"
TEXTS = ["我想取三万元现金", "please block my lost card", "what is my balance", "几点开门？"]


def names(of):
    return {c.id: c.name for c in of.classes if c.leaves}


def test_a_renamed_class_keeps_its_id_its_answers_and_its_examples(client, trained, fresh_id):
    before = client.probabilities(trained, TEXTS)
    ids = {name: id for id, name in names(client.manifest(trained)).items()}
    revision = client.manifest(trained).revision
    tried = client.rename(trained, "balance", "余额", validate_only=True)
    assert tried.manifest.description == "rename balance to 余额"
    assert not tried.HasField("version")
    assert client.manifest(trained).revision == revision

    terms = {"expected_revision": revision, "reason": "one language", "request_id": fresh_id("rename")}
    done = client.rename(trained, "balance", "余额", **terms)
    assert client.rename(trained, "balance", "余额", **terms) == done
    assert done.version.origin == registry.VERSION_ORIGIN_INSTANT
    assert done.manifest.reason == "one language"
    assert names(done.manifest)[ids["balance"]] == "余额"
    for was, now in zip(before, client.probabilities(trained, TEXTS)):
        assert now == {("余额" if name == "balance" else name): p for name, p in was.items()}
    # Examples under the old name, stored before or after, are the class's.
    client.add(trained, [("tell me the balance of my account please", "balance")])
    assert {s.class_name for s in client.stats(trained).labels if s.label == "balance"} == {"余额"}
    planned = client.train(trained, epochs=1)[1].planned
    assert planned.mode == registry.TRAINING_MODE_CONTINUE, planned.reason
    assert not planned.added_classes
    client.undo(trained)
    assert client.probabilities(trained, TEXTS) == before


def test_rename_as_a_command(client, trained, taxond):
    bank = trained.removeprefix("models/")
    [tried] = taxond("rename", bank, SMALL, "小额", "--dry-run")
    assert tried["version"] is None
    assert client.manifest(trained).revision == 1
    [done] = taxond("rename", bank, SMALL, "小额", "--reason", "short")
    assert done["manifest"]["reason"] == "short"
    assert done["version"]["number"] == 2
    assert [c["former_names"] for c in taxond("classes", bank) if c["name"] == "小额"] == [[SMALL]]
    [refusal] = taxond("rename", bank, LARGE, SMALL, status=4)
    assert "new_name" in refusal["error"]["message"]


def test_a_removed_class_is_shared_out_among_the_others(client, trained, fresh_id):
    before = client.probabilities(trained, TEXTS)
    [tried] = client.remove(trained, [SMALL], validate_only=True)
    assert tried.preview.manifest.description == f"remove {SMALL}"
    assert client.probabilities(trained, TEXTS) == before
    terms = {"learn": job.LEARN_NONE, "reason": "one counter", "request_id": fresh_id("remove")}
    [first] = client.remove(trained, [SMALL], **terms)
    [again] = client.remove(trained, [SMALL], **terms)
    assert again.applied.version == first.applied.version
    assert first.applied.manifest.reason == "one counter"
    for was, now in zip(before, client.probabilities(trained, TEXTS)):
        rest = 1 - was[SMALL]
        assert now == {name: pytest.approx(p / rest, abs=1e-4) for name, p in was.items() if name != SMALL}
        assert sum(now.values()) == pytest.approx(1)
    total = client.stats(trained).total
    client.undo(trained)
    assert client.probabilities(trained, TEXTS) == before
    assert client.stats(trained).total == total


def test_the_others_learn_after_a_removal(client, trained):
    messages = client.remove(trained, [SMALL])
    events = [m.event for m in messages[1:]]
    planned = next(e.planned for e in events if e.WhichOneof("event") == "planned")
    assert planned.mode == registry.TRAINING_MODE_TRANSFER
    assert SMALL in planned.reason
    assert events[-1].finished.job.state == job.JOB_STATE_SUCCEEDED
    assert SMALL not in names(client.manifest(trained)).values()


def test_every_level_answers_and_sums_to_one(client, trained):
    before = client.probabilities(trained, TEXTS)
    tried = client.place(trained, SMALL, "取款", create_parent=True, validate_only=True)
    assert not tried.HasField("version")
    client.place(trained, SMALL, "取款", create_parent=True, reason="one counter")
    client.place(trained, LARGE, "取款")
    client.place(trained, "取款", "cash", create_parent=True)
    assert client.manifest(trained).change == manifest.CHANGE_KIND_MOVE
    assert client.probabilities(trained, TEXTS) == before
    assert client.probabilities(trained, TEXTS, level=2) == before
    for level, group in enumerate(["cash", "取款"]):
        for was, now in zip(before, client.probabilities(trained, TEXTS, level=level)):
            assert now.pop(group) == pytest.approx(was[SMALL] + was[LARGE], abs=1e-9)
            assert now == {name: p for name, p in was.items() if name not in (SMALL, LARGE)}
    for _ in range(3):
        client.undo(trained)
    assert client.probabilities(trained, TEXTS, level=0) == before
    assert {c.parent for c in client.manifest(trained).classes if c.leaves} == {0}


def test_an_added_class_is_silent_and_then_learnt(client, trained):
    before = client.probabilities(trained, TEXTS)
    [tried] = client.add_classes(trained, ["loan"], validate_only=True)
    assert tried.preview.validation_accuracy_after == tried.preview.validation_accuracy_before
    [added] = client.add_classes(trained, ["loan"], reason="spring offer")
    assert not added.applied.job
    for was, now in zip(before, client.probabilities(trained, TEXTS)):
        assert now.pop("loan") <= 0.001001
        assert now == pytest.approx(was, abs=0.00101)
    client.add(trained, [(f"i want to borrow {n} thousand for a house", "loan") for n in range(10, 60)])
    client.train(trained)
    [answer] = client.probabilities(trained, ["i want to borrow 75 thousand for a house"])
    assert max(answer, key=answer.get) == "loan"
    client.undo(trained)
    assert client.probabilities(trained, TEXTS) == before


def test_the_other_changes_as_commands(client, trained, taxond):
    bank = trained.removeprefix("models/")
    before = client.probabilities(trained, TEXTS)
    [moved] = taxond("move", bank, SMALL, "--under", "取款", "--create")
    assert moved["manifest"]["description"] == f"move {SMALL} under 取款"
    [answer] = taxond("predict", bank, TEXTS[0], "--level", "0", "--top-k", "9")
    assert "取款" in [c["name"] for c in answer["classes"]]
    states = {c["name"]: c["state"] for c in taxond("classes", bank)}
    assert states["取款"] == "group"
    [tried] = taxond("remove", bank, "取款", "--dry-run")
    assert tried["preview"]["manifest"]["change"] == "remove"
    [removed] = taxond("remove", bank, "取款", "--no-learn")
    assert removed["applied"]["job"] == ""
    assert {c["state"] for c in taxond("classes", bank, "--all") if c["name"] in ("取款", SMALL)} == {"removed"}
    [added] = taxond("add", bank, "loan")
    assert "loan" in [c["name"] for c in added["applied"]["manifest"]["classes"]]
    [moved] = taxond("move", bank, "loan", "--under", "other", "--create", "--dry-run")
    assert moved["version"] is None
    for _ in range(3):
        taxond("undo", bank)
    assert client.probabilities(trained, TEXTS) == before


def test_suggested_merges_gain_what_they_say(client, fresh_id, examples, taxond):
    name = client.create(fresh_id("suggest"))
    bank = name.removeprefix("models/")
    # Two labels for texts that nobody can tell apart.
    coins = [(f"is coin number {n} heads or tails", ("heads", "tails")[n * n // 7 % 2]) for n in range(300)]
    client.add(name, examples + coins)
    client.train(name, seed=7, epochs=3)
    answer = client.suggest(name, limit=1)
    [best] = answer.suggestions
    assert set(best.classes) == {"heads", "tails"}
    assert best.confused > 0
    assert {(e.label, e.answer) for e in best.examples} <= {("heads", "tails"), ("tails", "heads")}
    [tried] = client.merge(name, best.classes, "coin", validate_only=True)
    assert tried.preview.validation_accuracy_before == answer.validation_accuracy
    gain = tried.preview.validation_accuracy_after - tried.preview.validation_accuracy_before
    assert best.accuracy_gain == pytest.approx(gain)
    [told] = taxond("suggest", bank, "--limit", "1")
    assert told["suggestions"][0]["accuracy_gain"] == best.accuracy_gain
    assert told["suggestions"][0]["examples"][0]["text"] == best.examples[0].text
    pair = [f"#{id}" for id in best.class_ids]
    [applied] = taxond("merge", bank, *pair, "--into", "coin", "--no-learn")
    assert applied["applied"]["manifest"]["revision"] == answer.manifest_revision + 1
    assert not client.suggest(name).suggestions or client.suggest(name).suggestions[0].accuracy_gain < gain


def test_a_class_of_two_topics_is_suggested_and_split_from_the_command_line(client, fresh_id, examples, taxond, tmp_path):
    name = client.create(fresh_id("two"))
    bank = name.removeprefix("models/")
    branches = [f"is the branch in street {n} open on {day}" for n in range(8) for day in ("monday", "friday", "sunday")]
    rates = [f"what is the euro exchange rate for {n} {coin}" for n in range(8) for coin in ("dollars", "yen", "pounds")]
    total = client.add(name, examples + [(text, "two") for text in branches + rates]).total
    client.train(name, seed=7, epochs=3)
    answer = client.suggest_splits(name, limit=1)
    [best] = answer.suggestions
    assert (best.class_name, best.examples, answer.version) == ("two", 48, f"{name}/versions/1")
    assert 0 < best.separation < 1
    texts = [{e.text for e in client.examples(name, ids=list(part.example_ids))} for part in best.parts]
    assert {frozenset(part) for part in texts} == {frozenset(branches), frozenset(rates)}
    rated = texts.index(set(rates))
    assert "rate" in best.parts[rated].words and "rate" not in best.parts[1 - rated].words
    assert {e.text for e in best.parts[rated].typical} <= set(rates)

    file = tmp_path / "parts.csv"
    [told] = taxond("suggest", bank, "--splits", "--class", "two", "--out", str(file))
    assert (told["file"], len(told["suggestions"])) == (str(file), 1)
    assert told["suggestions"][0]["separation"] == best.separation
    assert told["suggestions"][0]["parts"][rated]["words"] == list(best.parts[rated].words)
    file.write_text(file.read_text().replace(f"two {rated + 1}", "rates").replace(f"two {2 - rated}", "branches"))
    [split] = taxond("split", bank, "two", "--into", "rates", "--into", "branches", "--file", str(file), "--no-learn")
    assert split["applied"]["manifest"]["revision"] == answer.manifest_revision + 1
    assert {e.text for e in client.examples(name, class_name="rates")} == set(rates)
    assert {e.text for e in client.examples(name, class_name="branches")} == set(branches)
    assert client.model(name).example_count == total
    [refusal] = taxond("suggest", bank, "--splits", "--class", "nothing", status=3)
    assert "nothing" in refusal["error"]["message"]


def test_a_split_sends_examples_to_its_parts(client, trained, taxond, tmp_path):
    bank = trained.removeprefix("models/")
    before = client.probabilities(trained, TEXTS)
    rules = ["--into", "card gone", "--into", LOST, "--pattern", "card gone=stolen|gone|missing", "--no-learn"]
    [tried] = taxond("split", bank, LOST, *rules, "--dry-run")
    [divided] = tried["preview"]["splits"]
    [gone, lost] = [part["train"] + part["validation"] for part in divided["parts"]]
    total = sum(1 for e in client.examples(trained) if e.label == LOST)
    assert gone + lost == total and min(gone, lost) > 0
    assert client.probabilities(trained, TEXTS) == before
    [split] = taxond("split", bank, LOST, *rules)
    assert split["applied"]["splits"] == [divided]
    meant = [e.class_name for e in client.examples(trained) if e.label == LOST]
    assert (meant.count("card gone"), meant.count(LOST)) == (gone, lost)
    [refused] = taxond("split", bank, "card gone", "--into", "a", "--rest", "b", status=2)
    assert "'b' is none of the parts" in refused["error"]["message"]
    client.undo(trained)
    assert client.probabilities(trained, TEXTS) == before
    assert {e.class_name for e in client.examples(trained) if e.label == LOST} == {LOST}


def test_a_list_of_changes_from_a_file(client, trained, taxond, tmp_path):
    bank = trained.removeprefix("models/")
    before = client.probabilities(trained, TEXTS)
    changes = tmp_path / "changes.json"
    changes.write_text(
        json.dumps(
            [
                {"merge": {"classes": [SMALL, LARGE], "into": "取款"}},
                {"move": {"class_name": "取款", "parent": "cash", "create_parent": True}},
                {"rename": {"class_name": "balance", "new_name": "余额"}},
            ]
        )
    )
    [applied] = taxond("apply", bank, str(changes), "--no-learn", "--reason", "spring")
    assert applied["applied"]["manifest"]["change"] == "several"
    assert client.manifest(trained).revision == 2
    [answer] = client.probabilities(trained, TEXTS[:1])
    assert answer["取款"] == pytest.approx(before[0][SMALL] + before[0][LARGE])
    changes.write_text('[{"merge": {"classes": [], "in": "x"}}]')
    [refused] = taxond("apply", bank, str(changes), status=2)
    assert "unknown field `in`" in refused["error"]["message"]
    client.undo(trained)
    assert client.probabilities(trained, TEXTS) == before
