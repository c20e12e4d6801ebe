"""The main job: create, add, train, predict, change, undo."""

import pytest
from conftest import LARGE, SMALL
from taxond import Add, Event, JobFailed, Merge, Move, NotFound, Part, Remove, Rename, Split, choose
from taxond.v1.job_pb2 import JOB_STATE_CANCELLED, JOB_STATE_SUCCEEDED

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "what is my balance"]


def test_create_add_train_predict_merge_undo(client, fresh, examples):
    name = fresh("session")
    assert client.create_model(name).name == f"models/{name}"
    added = client.add_examples(name, iter(examples))
    assert (added.added, added.total) == (len(examples), len(examples))
    run = client.train(name, seed=1)
    events = list(run)
    assert all(isinstance(event, Event) for event in events)
    kinds = [event.kind for event in events]
    assert (kinds[0], kinds[-1]) == ("accepted", "finished") and {"planned", "progress", "published"} < set(kinds)
    assert [e.sequence for e in events] == sorted(e.sequence for e in events)
    assert run.wait().state == JOB_STATE_SUCCEEDED
    assert client.predict(name, TEXTS[1]) == "挂失银行卡"

    before = client.predict_probabilities(name, TEXTS)
    change = client.merge(name, [SMALL, LARGE], into="取款", learn="none", reason="one counter")
    assert change.run is None and change.manifest.reason == "one counter" and change.seconds > 0
    for was, now in zip(before, client.predict_probabilities(name, TEXTS)):
        assert now["取款"] == pytest.approx(was[SMALL] + was[LARGE], abs=1e-6)
    assert client.predict_probabilities(name, TEXTS, revision=1) == before
    client.undo(name)
    assert client.predict_probabilities(name, TEXTS) == before


def test_a_merge_is_learnt_in_the_background(client, bank):
    change = client.merge(bank, [SMALL, LARGE], into="取款")
    assert client.model(bank).manifest_revision == change.revision
    job = change.run.wait()
    assert job.state == JOB_STATE_SUCCEEDED
    assert client.watch(job.name).wait().versions == client.job(job.name).versions == job.versions
    assert [j.name for j in client.jobs(bank)] == [job.name]


def test_every_change_has_its_call(client, bank):
    client.rename(bank, "balance", "account balance", reason="plainer")
    client.move(bank, SMALL, under="现金", create=True)
    client.add(bank, ["loans"], learn="none")
    client.remove(bank, ["loans"], learn="none")
    client.merge(bank, [SMALL, LARGE], "取款", learn="none")
    parts = [Part("large", pattern="万|[0-9]{5}"), Part("small", remaining=True)]
    divided = client.split(bank, "取款", parts, learn="none").splits
    assert [part.name for part in divided[0].parts] == ["large", "small"]
    assert all(part.train > 0 for part in divided[0].parts)
    client.undo(bank)
    described = [entry.description for entry in client.history(bank, limit=3)]
    assert described[0].startswith("undo") and described[1].startswith("split") and described[2].startswith("merge")
    assert client.predict(bank, "取款800", level=0) in {"现金", "取款"}


def test_several_changes_are_one(client, bank):
    changes = [
        Merge([SMALL, LARGE], "cash"),
        Split("cash", [Part("large", pattern="万|[0-9]{5}"), Part("small", remaining=True)]),
        Rename("balance", "account balance"),
        Move("large", "withdraw", create=True),
        Add(["loans"]),
        Remove(["loans"]),
    ]
    revision = client.manifest(bank).revision
    preview = client.preview(bank, *changes)
    assert preview.manifest.revision == revision + 1 and client.manifest(bank).revision == revision
    change = client.apply(bank, changes, learn="none", expected_revision=revision)
    assert change.revision == revision + 1
    assert {"large", "small", "account balance"} <= {c.name for c in change.manifest.classes}
    assert client.undo(bank).manifest.revision == revision + 2


def test_a_job_that_is_cancelled_has_not_succeeded(client, bank):
    run = client.train(bank, epochs=1000)
    for event in run:
        if event.kind == "progress":
            client.cancel(run.name)
            break
    with pytest.raises(JobFailed) as failed:
        run.wait()
    assert failed.value.job.state == JOB_STATE_CANCELLED and "cancelled" in str(failed.value)
    assert run.wait(check=False).state == JOB_STATE_CANCELLED


def test_progress_draws_a_bar(client, bank, capfd):
    client.train(bank, epochs=2, learn="scratch").wait(progress=True)
    shown = capfd.readouterr().err
    assert "jobs/" in shown and "2/2" in shown and "loss=" in shown


def test_lists_and_examples(client, bank, examples, tmp_path):
    assert bank in [model.name.removeprefix("models/") for model in client.models()]
    assert [version.number for version in client.versions(bank)] == [1]
    assert client.version(bank).number == client.version(bank, alias="serving").number == 1
    assert [manifest.revision for manifest in client.manifests(bank)] == [1]
    assert len(list(client.examples(bank))) == len(examples) == client.stats(bank).total
    some = list(client.examples(bank, choose(contains="BLOCK")))
    assert some and all("block" in example.text.lower() for example in some)
    told = client.relabel_examples(bank, "balance", choose(ids=[some[0].id]), dry_run=True)
    assert (told.relabelled, told.unchanged) in {(1, 0), (0, 1)}
    assert client.delete_examples(bank, choose(ids=[some[0].id])).total == len(examples) - 1
    measured = client.evaluate(bank, examples[:50])
    assert measured.examples == 50 and measured.accuracy > 0.5
    assert client.evaluate(bank).examples > 0
    assert client.suggest_merges(bank).validation_examples > 0
    assert client.suggest_splits(bank).version == f"models/{bank}/versions/1"
    assert client.suggest_relabels(bank).examples == len(examples) - 1
    client.promote(bank, 1, alias="canary")
    assert client.predict(bank, TEXTS, alias="canary") == client.predict(bank, TEXTS, version=1)
    assert client.backup(tmp_path / "all.backup") == (tmp_path / "all.backup").stat().st_size > 0
    client.delete_model(bank)
    with pytest.raises(NotFound):
        client.model(bank)
