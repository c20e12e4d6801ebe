"""What goes in and what comes out: strings, lists, pandas, many texts."""

import pandas as pd
import pytest
from conftest import LARGE, SMALL

TEXTS = ["我想取三万元现金", "please block my lost card", "取款800", "what is my balance"]


def test_a_series_and_a_frame_keep_their_index(client, bank):
    expected = client.predict(bank, TEXTS)
    series = pd.Series(TEXTS, index=[7, 3, 5, 1])
    labels = client.predict(bank, series)
    assert list(labels.index) == [7, 3, 5, 1] and list(labels) == expected
    frame = pd.DataFrame({"id": range(4), "words": TEXTS}, index=list("abcd"))
    assert list(client.predict(bank, frame, column="words")) == expected
    table = client.predict_probabilities(bank, frame, column="words")
    assert list(table.index) == list("abcd") and list(table.idxmax(axis=1)) == expected
    assert table.shape == (4, 6)
    assert table.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_examples_come_from_a_frame(client, fresh, examples):
    name = fresh("frame")
    client.create_model(name)
    frame = pd.DataFrame(examples, columns=["text", "category"])
    assert client.add_examples(name, frame, label_column="category").added == len(examples)
    assert client.add_examples(name, frame, label_column="category").duplicates == len(examples)


def test_what_is_no_text_is_named_before_anything_is_sent(client, fresh):
    with pytest.raises(TypeError, match="text 1 is no string, got nan"):
        client.predict("none", pd.Series(["fine", float("nan")]))
    with pytest.raises(TypeError, match="classify"):
        client.predict("none", TEXTS, top_k=2)
    name = fresh("pairs")
    client.create_model(name)
    for wrong in (("text",), "ab", ("text", None)):
        with pytest.raises(TypeError, match="example 1501 is no pair"):
            client.add_examples(name, [(f"text {n}", "a") for n in range(1501)] + [wrong])
    assert client.stats(name).total == 0


def test_what_an_iterable_raises_is_raised_and_nothing_is_stored(client, fresh):
    name = fresh("broken")
    client.create_model(name)

    def rows():
        yield from ((f"text {n}", "a") for n in range(5000))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.add_examples(name, rows())
    assert client.stats(name).total == 0


def test_many_texts_are_answered_in_their_order(client, bank):
    texts = [TEXTS[n % 4] for n in range(3000)]
    expected = client.predict(bank, TEXTS)
    assert client.predict(bank, texts) == [expected[n % 4] for n in range(3000)]
    long = ["取款 " * 9_000 + text for text in TEXTS * 60]
    assert len(client.predict(bank, long)) == 240
    assert len(client.predict_probabilities(bank, texts[:300])) == 300
    assert client.classify(bank, []) == []


def test_texts_are_read_as_they_are_answered(client, bank):
    read = 0

    def endless():
        nonlocal read
        while True:
            yield TEXTS[read % 4]
            read += 1

    expected = client.predict(bank, TEXTS)
    answers = client.classify_each(bank, endless())
    assert [next(answers).label for _ in range(1000)] == [expected[n % 4] for n in range(1000)]
    answers.close()
    assert [a.label for a in client.classify_each(bank, iter(TEXTS))] == expected
    assert list(client.classify_each(bank, [])) == []


def test_what_an_iterable_of_texts_raises_is_raised_after_the_answers_before(client, bank):
    def lines():
        yield from TEXTS * 64
        yield "one more"
        raise OSError("the disk is gone")

    answered = 0
    with pytest.raises(OSError, match="the disk is gone"):
        for _ in client.classify_each(bank, lines()):
            answered += 1
    assert answered in (0, 256)
    with pytest.raises(TypeError, match="text 1 is no string"):
        list(client.classify_each(bank, ["fine", None]))


def test_an_answer_in_full(client, bank):
    [answer] = client.classify(bank, TEXTS[:1], top_k=3, min_precision=0.0)
    assert answer.label == answer.classes[0].name and answer.probability == answer.classes[0].probability
    assert len(answer.classes) == 3 and (answer.version, answer.revision) == (1, 1) and not answer.rejected
    [none] = client.classify(bank, ["xyzzy"], min_confidence=1.0)
    assert (none.label, none.probability) == (None, None)


def test_an_old_revision_tells_what_is_newer(client, bank):
    client.rename(bank, "balance", "account balance")
    client.remove(bank, [SMALL], learn="none")
    answers = client.classify(bank, TEXTS, top_k=10, revision=1)
    assert {answer.revision for answer in answers} == {1}
    assert "balance" in answers[3].probabilities() and LARGE in answers[0].probabilities()
    assert [unresolved.name for unresolved in answers[0].unresolved] == [SMALL]
