"""The main job, driven by a Python client: create, add, train, predict, merge, undo."""

import pytest
from client import job, kinds, predict, registry, training
from conftest import LARGE, SMALL

# Probabilities are computed in single precision.
SINGLE = 1e-6

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "几点开门？", "what is my balance"]


def test_create_add_train_predict_merge_undo(client, fresh_id, examples):
    name = client.create(fresh_id("bank"))
    added = client.add(name, examples)
    assert (added.added, added.duplicates, added.total) == (len(examples), 0, len(examples))

    events = client.train(name, seed=1)
    assert kinds(events) == ["accepted", "planned", "progress", "published", "finished"]
    planned, published, finished = events[1].planned, events[-2].published, events[-1].finished
    assert planned.mode == registry.TRAINING_MODE_SCRATCH
    assert planned.train_examples + planned.validation_examples == len(examples)
    assert published.promoted
    assert published.version.name == f"{name}/versions/1"
    assert finished.job.state == job.JOB_STATE_SUCCEEDED
    assert list(finished.job.versions) == [f"{name}/versions/1"]

    before = client.predict(name, TEXTS)
    assert before.version == f"{name}/versions/1"
    for prediction in before.predictions:
        assert len(prediction.classes) == 6
        assert sum(c.probability for c in prediction.classes) == pytest.approx(1, abs=SINGLE)
        probabilities = [c.probability for c in prediction.classes]
        assert probabilities == sorted(probabilities, reverse=True)
    assert before.predictions[1].classes[0].name == "挂失银行卡"

    applied = client.merge(name, [SMALL, LARGE], "取款", learn=job.LEARN_NONE)
    assert [m.WhichOneof("result") for m in applied] == ["applied"]
    merged = client.predict(name, TEXTS)
    assert merged.version == applied[0].applied.version.name == f"{name}/versions/2"
    for was, now in zip(before.predictions, merged.predictions):
        was, now = ({c.name: c.probability for c in p.classes} for p in (was, now))
        assert now.pop("取款") == pytest.approx(was.pop(SMALL) + was.pop(LARGE), abs=SINGLE)
        assert now == was

    undone = client.undo(name)
    assert undone.manifest.revision > applied[0].applied.manifest.revision
    after = client.predict(name, TEXTS)
    assert after.version == undone.version.name == f"{name}/versions/3"
    assert list(after.predictions) == list(before.predictions)


def test_progress_is_streamed_while_training_runs(client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, examples)
    epochs = 6
    seen = []
    for response in client.training.Train(training.TrainRequest(model=name, epochs=epochs)):
        event = response.event
        if event.WhichOneof("event") == "progress":
            seen.append(event.progress)
            if len(seen) == 1:
                assert client.model(name).running_job == event.job
                assert client.job(event.job).state == job.JOB_STATE_RUNNING
    fitting = [p for p in seen if p.stage == "fit"]
    assert fitting, seen
    assert all(p.epochs == epochs and 1 <= p.epoch <= epochs and p.loss > 0 for p in fitting)
    assert [p.step for p in fitting] == sorted(p.step for p in fitting)
    assert client.model(name).running_job == ""


def test_a_merge_that_learns_streams_its_job_after_the_instant_version(client, trained):
    messages = client.merge(trained, [SMALL, LARGE], "取款", reason="one counter")
    assert messages[0].WhichOneof("result") == "applied"
    applied = messages[0].applied
    assert applied.version.origin == registry.VERSION_ORIGIN_INSTANT
    assert applied.manifest.reason == "one counter"
    events = [m.event for m in messages[1:]]
    assert {e.job for e in events} == {applied.job}
    planned = next(e.planned for e in events if e.WhichOneof("event") == "planned")
    assert planned.mode == registry.TRAINING_MODE_TRANSFER
    assert events[-1].finished.job.state == job.JOB_STATE_SUCCEEDED


def test_a_preview_changes_nothing(client, trained):
    before = client.model(trained)
    messages = client.merge(trained, [SMALL, LARGE], "取款", validate_only=True)
    assert [m.WhichOneof("result") for m in messages] == ["preview"]
    assert "取款" in [c.name for c in messages[0].preview.manifest.classes]
    assert client.model(trained) == before


def test_training_again_continues_and_a_new_label_transfers(client, trained):
    again = client.train(trained, epochs=1)
    assert again[1].planned.mode == registry.TRAINING_MODE_CONTINUE
    ids = {c.name: c.id for c in client.manifest(trained).classes}
    client.add(trained, [(f"exchange {n} euros into dollars", "exchange") for n in range(10, 40)])
    changed = client.train(trained, epochs=2)
    planned = changed[1].planned
    assert planned.mode == registry.TRAINING_MODE_TRANSFER
    assert list(planned.added_classes) == ["exchange"]
    now = {c.name: c.id for c in client.manifest(trained).classes}
    assert now.pop("exchange") not in ids.values()
    assert now == ids


def test_a_repeat_with_the_same_request_id_gets_the_first_answer(client, fresh_id):
    request = registry.CreateModelRequest(model_id=fresh_id(), request_id=fresh_id("request"))
    first = client.registry.CreateModel(request)
    assert client.registry.CreateModel(request) == first


def test_the_best_class_alone_is_the_default(client, trained):
    response = client.predictions.Predict(predict.PredictRequest(model=trained, texts=TEXTS))
    assert [len(p.classes) for p in response.predictions] == [1] * len(TEXTS)
