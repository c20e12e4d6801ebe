"""The comparison itself: what is left open in a document, and what is not."""

from transcript import Block, Step, differs, matches, steps


def test_numbers_and_widths_are_left_open_and_words_are_not():
    told = ["version  made        took", "───────", "      3  2026-11-24  1.1 s"]
    assert matches(told, ["version      made  took", "─────────────", "12  2027-01-01  980 ms"])
    assert matches(told, ["version  made  took", "────", "3  2026-11-24  2 min 7 s"])
    assert not matches(told, ["version      made  took", "─────────────", "12  2027-01-01  never"])
    assert not matches(told, told + ["one more"])
    assert not matches(told, told[:-1])


def test_dots_stand_for_lines_or_for_a_part_of_one():
    assert matches(["a", "...", "b"], ["a", "x", "y", "b"])
    assert matches(["a", "...", "b"], ["a", "b"])
    assert not matches(["a", "...", "b"], ["a", "x", "c"])
    assert matches(["by ... at 3"], ["by ann, and others at 12"])
    assert not matches(["by ... at 3"], ["by ann"])


def test_commands_go_on_over_lines():
    text = "$ cat > f <<E\n> one\n> E\nsaid\n$ curl a \\\n    b\n{}\n"
    assert steps(Block("console", text, "")) == [
        Step("cat > f <<E\none\nE", ["said"]),
        Step("curl a \\\n    b", ["{}"]),
    ]
    assert [step.command for step in steps(Block("sh", "a  # why\n# only a comment\nb \\\n  c\n", ""))] == [
        "a",
        "b   c",
    ]


def test_a_failure_must_be_told():
    assert differs(Step("x", None), 1, "boom\n")
    assert differs(Step("x", ["boom"]), 1, "boom\n")
    assert differs(Step("x", ["error: boom"]), 3, "error: boom\n") is None
    assert differs(Step("x", ["fine"]), 0, "fine\n") is None
