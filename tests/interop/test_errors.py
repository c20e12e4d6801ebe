"""Bad input is refused with a code and details that name what is wrong, and nothing is lost by it."""

import math

import grpc
import pytest
from client import Client, dataset, job, predict, refused, registry, taxonomy, training
from conftest import LARGE, SMALL

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def bank(daemon, fresh_id, examples):
    """A model with one version; no test of this file may change it."""
    with Client(daemon.address) as client:
        name = client.create(fresh_id("errors"))
        client.add(name, examples)
        client.train(name, epochs=2)
        before = client.model(name), client.stats(name), client.manifest(name)
        yield name
        assert (client.model(name), client.stats(name), client.manifest(name)) == before


MISSING = {
    "GetModel": (lambda c, m: c.model("models/none"), "Model", "models/none"),
    "DeleteModel": (
        lambda c, m: c.registry.DeleteModel(registry.DeleteModelRequest(name="models/none")),
        "Model",
        "models/none",
    ),
    "GetVersion": (
        lambda c, m: c.registry.GetVersion(registry.GetVersionRequest(name=f"{m}/versions/99")),
        "Version",
        "{m}/versions/99",
    ),
    "GetVersion of an alias": (
        lambda c, m: c.registry.GetVersion(registry.GetVersionRequest(name=f"{m}@canary")),
        "Alias",
        "{m}@canary",
    ),
    "ListVersions": (
        lambda c, m: c.registry.ListVersions(registry.ListVersionsRequest(model="models/none")),
        "Model",
        "models/none",
    ),
    "SetAlias": (
        lambda c, m: c.registry.SetAlias(registry.SetAliasRequest(model=m, alias="canary", version=99)),
        "Version",
        "{m}/versions/99",
    ),
    "AddExamples": (lambda c, m: c.add("models/none", [("text", "label")]), "Model", "models/none"),
    "ListExamples": (
        lambda c, m: c.dataset.ListExamples(dataset.ListExamplesRequest(model="models/none")),
        "Model",
        "models/none",
    ),
    "ListExamples of a class": (lambda c, m: c.examples(m, class_name="nothing"), "Class", "nothing"),
    "RelabelExamples": (lambda c, m: c.relabel("models/none", "a", {"ids": [1]}), "Model", "models/none"),
    "RelabelExamples of an example": (
        lambda c, m: c.relabel(m, "a", {"ids": [1, 999999]}),
        "Example",
        "{m}/examples/999999",
    ),
    "DeleteExamples": (lambda c, m: c.delete_examples("models/none", {"ids": [1]}), "Model", "models/none"),
    "DeleteExamples of a class": (lambda c, m: c.delete_examples(m, {"class_name": "#99"}), "Class", "#99"),
    "SuggestRelabels": (lambda c, m: c.suggest_relabels("models/none"), "Model", "models/none"),
    "GetStats": (lambda c, m: c.stats("models/none"), "Model", "models/none"),
    "Train": (lambda c, m: c.train("models/none"), "Model", "models/none"),
    "GetJob": (lambda c, m: c.job("jobs/999999"), "Job", "jobs/999999"),
    "WatchJob": (lambda c, m: c.watch("jobs/999999"), "Job", "jobs/999999"),
    "CancelJob": (
        lambda c, m: c.training.CancelJob(training.CancelJobRequest(name="jobs/999999")),
        "Job",
        "jobs/999999",
    ),
    "ListJobs": (
        lambda c, m: c.training.ListJobs(training.ListJobsRequest(model="models/none")),
        "Model",
        "models/none",
    ),
    "Evaluate": (
        lambda c, m: c.training.Evaluate(iter([training.EvaluateRequest(model="models/none")])),
        "Model",
        "models/none",
    ),
    "Predict": (lambda c, m: c.predict("models/none", ["text"]), "Model", "models/none"),
    "Predict of a version": (lambda c, m: c.predict(f"{m}/versions/99", ["text"]), "Version", "{m}/versions/99"),
    "Predict of an alias": (lambda c, m: c.predict(f"{m}@canary", ["text"]), "Alias", "{m}@canary"),
    "MergeClasses": (lambda c, m: c.merge("models/none", ["a", "b"], "c"), "Model", "models/none"),
    "MergeClasses of a class": (lambda c, m: c.merge(m, [SMALL, "nothing"], "c"), "Class", "nothing"),
    "RenameClass": (lambda c, m: c.rename("models/none", "a", "b"), "Model", "models/none"),
    "RenameClass of a class": (lambda c, m: c.rename(m, "nothing", "b"), "Class", "nothing"),
    "RemoveClasses": (lambda c, m: c.remove("models/none", ["a"]), "Model", "models/none"),
    "RemoveClasses of a class": (lambda c, m: c.remove(m, [SMALL, "nothing"]), "Class", "nothing"),
    "MoveClass": (lambda c, m: c.place("models/none", "a", "b"), "Model", "models/none"),
    "MoveClass of a class": (lambda c, m: c.place(m, "nothing", "", create_parent=True), "Class", "nothing"),
    "MoveClass under nothing": (lambda c, m: c.place(m, SMALL, "nothing"), "Class", "nothing"),
    "AddClasses": (lambda c, m: c.add_classes("models/none", ["a"]), "Model", "models/none"),
    "SuggestMerges": (lambda c, m: c.suggest("models/none"), "Model", "models/none"),
    "SuggestSplits": (lambda c, m: c.suggest_splits("models/none"), "Model", "models/none"),
    "UndoChange": (lambda c, m: c.undo("models/none"), "Model", "models/none"),
    "GetManifest": (lambda c, m: c.manifest(f"{m}/manifests/99"), "Manifest", "{m}/manifests/99"),
    "ListManifests": (
        lambda c, m: c.taxonomy.ListManifests(taxonomy.ListManifestsRequest(model="models/none")),
        "Model",
        "models/none",
    ),
}


@pytest.mark.parametrize("call", MISSING)
def test_what_does_not_exist_is_named(client, bank, call):
    run, kind, name = MISSING[call]
    with refused() as refusal:
        run(client, bank)
    assert refusal[0].code == NOT_FOUND, refusal
    assert refusal[0].resource.resource_type == f"taxond.v1/{kind}"
    assert refusal[0].resource.resource_name == name.format(m=bank)


def ask(client, model, **fields):
    return client.predictions.Predict(predict.PredictRequest(model=model, **fields))


# The call, the field that the refusal names, and a part of what it says about it.
INVALID_FIELDS = {
    "merge of a class with itself": (lambda c, m: c.merge(m, [SMALL, SMALL], "取款"), "classes", SMALL),
    "merge of one class": (lambda c, m: c.merge(m, [SMALL], "取款"), "classes", "1"),
    "merge of no class": (lambda c, m: c.merge(m, [], "取款"), "classes", "0"),
    "merge into another class": (lambda c, m: c.merge(m, [SMALL, LARGE], "balance"), "into", "balance"),
    "merge into an empty name": (lambda c, m: c.merge(m, [SMALL, LARGE], ""), "into", "empty"),
    "merge into a control character": (lambda c, m: c.merge(m, [SMALL, LARGE], "a\u0007b"), "into", "U+0007"),
    "merge into a long name": (lambda c, m: c.merge(m, [SMALL, LARGE], "长" * 43), "into", "129"),
    "rename to the name of another class": (lambda c, m: c.rename(m, SMALL, LARGE), "new_name", LARGE),
    "rename to its own name": (lambda c, m: c.rename(m, SMALL, SMALL), "new_name", "already"),
    "rename to a bidirectional character": (lambda c, m: c.rename(m, SMALL, "a\u202eb"), "new_name", "U+202E"),
    "removal of no class": (lambda c, m: c.remove(m, []), "classes", "at least one"),
    "removal of a class twice": (lambda c, m: c.remove(m, [SMALL, SMALL]), "classes", SMALL),
    "removal of all but one": (
        lambda c, m: c.remove(m, [k.name for k in c.manifest(m).classes[1:]]),
        "classes",
        "would be left",
    ),
    "move under a class with leaves": (lambda c, m: c.place(m, SMALL, LARGE), "parent", LARGE),
    "move to where it is": (lambda c, m: c.place(m, SMALL, ""), "parent", "at the top already"),
    "group with a bad name": (lambda c, m: c.place(m, SMALL, "a\u0007b", create_parent=True), "parent", "U+0007"),
    "no class to add": (lambda c, m: c.add_classes(m, []), "names", "got 0"),
    "class that is there already": (lambda c, m: c.add_classes(m, ["new", SMALL]), "names[1]", SMALL),
    "class to add twice": (lambda c, m: c.add_classes(m, ["new", " new"]), "names[1]", "twice"),
    "unknown way to learn": (lambda c, m: c.add_classes(m, ["new"], learn=9), "learn", "9"),
    "deletion of nothing in particular": (lambda c, m: c.delete_examples(m, {}), "filter", "empty"),
    "deletion of all and some": (
        lambda c, m: c.delete_examples(m, {"all": True, "ids": [1]}),
        "filter.all",
        "only field",
    ),
    "relabelling of example 0": (lambda c, m: c.relabel(m, "a", {"ids": [0]}), "filter.ids[0]", "0"),
    "relabelling to a bidirectional character": (
        lambda c, m: c.relabel(m, "a\u202eb", {"ids": [1]}),
        "label",
        "U+202E",
    ),
    "filter by a blank text": (lambda c, m: c.examples(m, text_contains=" \t"), "filter.text_contains", "blank"),
    "too many labels suggested": (lambda c, m: c.suggest_relabels(m, limit=1001), "limit", "1001"),
    "labels suggested at no confidence": (
        lambda c, m: c.suggest_relabels(m, min_confidence=math.nan),
        "min_confidence",
        "NaN",
    ),
    "too many suggestions": (lambda c, m: c.suggest(m, limit=1001), "limit", "1001"),
    "too many splits suggested": (lambda c, m: c.suggest_splits(m, limit=1001), "limit", "1001"),
    "model without its collection": (lambda c, m: c.model("bank"), "name", "bank"),
    "job without its collection": (lambda c, m: c.job("1"), "name", "'1'"),
    "bad model id": (lambda c, m: c.create("Bank Model"), "model_id", "Bank Model"),
    "empty model id": (lambda c, m: c.create(""), "model_id", "empty"),
    "bad alias": (
        lambda c, m: c.registry.SetAlias(registry.SetAliasRequest(model=m, alias="1st", version=1)),
        "alias",
        "1st",
    ),
    "page too large": (
        lambda c, m: c.registry.ListModels(registry.ListModelsRequest(page_size=1001)),
        "page_size",
        "1001",
    ),
    "page token made up": (
        lambda c, m: c.registry.ListModels(registry.ListModelsRequest(page_token="!!")),
        "page_token",
        "!!",
    ),
    "no text": (lambda c, m: ask(c, m, texts=[]), "texts", "at least one"),
    "too many texts": (lambda c, m: ask(c, m, texts=["a"] * 257), "texts", "257"),
    "blank text": (lambda c, m: ask(c, m, texts=["fine", " \t"]), "texts[1]", "blank"),
    "text over the limit": (lambda c, m: ask(c, m, texts=["x" * (LIMIT + 1)]), "texts[0]", str(LIMIT + 1)),
    "top_k 0": (lambda c, m: ask(c, m, texts=["a"], top_k=0), "top_k", "0"),
    "top_k 1001": (lambda c, m: ask(c, m, texts=["a"], top_k=1001), "top_k", "1001"),
    "confidence NaN": (lambda c, m: ask(c, m, texts=["a"], min_confidence=math.nan), "min_confidence", "NaN"),
    "confidence above 1": (lambda c, m: ask(c, m, texts=["a"], min_confidence=1.5), "min_confidence", "1.5"),
    "learning rate NaN": (lambda c, m: c.train(m, learning_rate=math.nan), "learning_rate", "NaN"),
    "learning rate 0": (lambda c, m: c.train(m, learning_rate=0.0), "learning_rate", "0"),
    "learning rate infinite": (lambda c, m: c.train(m, learning_rate=math.inf), "learning_rate", "inf"),
    "epochs 0": (lambda c, m: c.train(m, epochs=0), "epochs", "0"),
    "epochs 1001": (lambda c, m: c.train(m, epochs=1001), "epochs", "1001"),
    "example without text": (lambda c, m: c.add(m, [("fine", "a"), ("", "a")]), "examples[1].text", "empty"),
    "example without label": (lambda c, m: c.add(m, [("text", "")]), "examples[0].label", "empty"),
    "example over the limit": (
        lambda c, m: c.add(m, [("x" * (LIMIT + 1), "a")]),
        "examples[0].text",
        str(LIMIT + 1),
    ),
    "example with a bidirectional label": (
        lambda c, m: c.add(m, [("text", "a\u202eb")]),
        "examples[0].label",
        "U+202E",
    ),
    "no model in the first message": (lambda c, m: c.add("", [("text", "a")]), "model", "got ''"),
}


@pytest.mark.parametrize("call", INVALID_FIELDS)
def test_a_wrong_field_is_named_with_its_value(client, bank, call):
    run, field, part = INVALID_FIELDS[call]
    with refused() as refusal:
        run(client, bank)
    assert refusal[0].code == INVALID, refusal
    named = {f: d for f, d in refusal[0].violations.items() if f == field or f.startswith(f"{field}[")}
    assert named, refusal
    assert any(part in description for description in named.values()), refusal


def test_a_bad_row_late_in_a_stream_stores_nothing_of_it(client, bank):
    before = client.stats(bank)
    rows = [(f"a new text {n}", "balance") for n in range(250)]
    rows[205] = ("   ", "balance")
    with refused() as refusal:
        client.add(bank, rows)
    assert refusal[0].code == INVALID
    # Counted over the whole stream, whose third message it is in.
    assert list(refusal[0].violations) == ["examples[205].text"], refusal
    assert client.stats(bank) == before


def test_a_model_without_examples_cannot_train(client, fresh_id):
    name = client.create(fresh_id())
    with refused() as refusal:
        client.train(name)
    assert refusal[0].code == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal[0].precondition[0].subject == name, refusal


def test_one_class_is_not_enough_to_train(client, fresh_id):
    name = client.create(fresh_id())
    client.add(name, [(f"text number {n}", "solo") for n in range(20)])
    with refused() as refusal:
        client.train(name)
    assert refusal[0].code == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal[0].precondition[0].type == "ONE_CLASS"
    assert refusal[0].precondition[0].subject == name, refusal
    assert "solo" in refusal[0].message


def test_a_model_without_a_version_cannot_answer(client, fresh_id):
    name = client.create(fresh_id())
    with refused() as refusal:
        client.predict(name, ["text"])
    assert refusal[0].code == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal[0].precondition[0].type == "NO_VERSION"


def test_there_is_nothing_to_undo_after_the_first_training(client, bank):
    with refused() as refusal:
        client.undo(bank)
    assert refusal[0].code == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal[0].precondition, refusal


def test_a_model_is_created_once(client, bank):
    with refused() as refusal:
        client.create(bank.removeprefix("models/"))
    assert refusal[0].code == grpc.StatusCode.ALREADY_EXISTS
    assert refusal[0].resource.resource_name == bank


def test_a_stale_revision_changes_nothing(client, bank):
    with refused() as refusal:
        client.merge(bank, [SMALL, LARGE], "取款", expected_revision=99)
    assert refusal[0].code in (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION)
    assert refusal[0].info.reason, refusal


def test_a_second_training_is_told_which_job_runs(client, fresh_id, examples):
    name = client.create(fresh_id())
    client.add(name, examples)
    stream = client.training.Train(training.TrainRequest(model=name, epochs=1000))
    running = next(stream).event.job
    with refused() as refusal:
        client.train(name)
    assert refusal[0].code == grpc.StatusCode.ABORTED
    assert running in refusal[0].message
    client.training.CancelJob(training.CancelJobRequest(name=running))
    assert [r.event for r in stream][-1].finished.job.state == job.JOB_STATE_CANCELLED


def test_a_request_id_given_to_another_request_is_refused(client, fresh_id):
    request_id = fresh_id("request")
    client.registry.CreateModel(registry.CreateModelRequest(model_id=fresh_id(), request_id=request_id))
    other = fresh_id()
    with refused() as refusal:
        client.registry.CreateModel(registry.CreateModelRequest(model_id=other, request_id=request_id))
    assert "request_id" in refusal[0].violations, refusal
    with refused() as refusal:
        client.model(f"models/{other}")
    assert refusal[0].code == NOT_FOUND
