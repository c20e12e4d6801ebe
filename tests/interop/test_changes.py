"""Changes of the classes, each by its RPC and by its command: right at once, and undone exactly."""

from client import registry
from conftest import LARGE, SMALL

TEXTS = ["我想取三万元现金", "please block my lost card", "what is my balance", "几点开门？"]


def names(manifest):
    return {c.id: c.name for c in manifest.classes if c.leaves}


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
    assert "new_name" in str(refusal["error"]["details"])
