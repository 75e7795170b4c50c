"""Settings of the owner's, changed by key: every other line stays as it is."""

import pytest
from migrations import Keys
from settings import edit

TEXT = """\
# The head.
first:
  one: 1   # one
  # About two.
  # My own words.
  two: [a, b]
  three:
    - x: 1
      y: 2

second:
  last: "text"
"""
SEEDED = TEXT.replace("  # My own words.\n", "")


@pytest.mark.parametrize(
    ("keys", "before", "after"),
    [
        (
            Keys(remove={"first.two": ""}),
            "  # About two.\n  # My own words.\n  two: [a, b]\n",
            "  # My own words.\n",
        ),
        (Keys(remove={"first.three": ""}), "  three:\n    - x: 1\n      y: 2\n", ""),
        (Keys(remove={"second.last": ""}), 'second:\n  last: "text"\n', ""),
        (Keys(rename={"first.one": "first.uno"}), "  one: 1   # one\n", "  uno: 1   # one\n"),
        (
            Keys(rename={"second.last": "first.last"}),
            '      y: 2\n\nsecond:\n  last: "text"\n',
            '      y: 2\n  last: "text"\n\n',
        ),
        (
            Keys(rename={"first.one": "third.deep.one"}),
            TEXT.partition("first:\n")[2],
            TEXT.partition("first:\n  one: 1   # one\n")[2] + "\nthird:\n  deep:\n    one: 1   # one\n",
        ),
        (Keys(add=["first.four"]), "      y: 2\n", "      y: 2\n  # About four.\n  four: 4\n"),
        (Keys(add=["fifth.a"]), '"text"\n', '"text"\n\n# About fifth.\nfifth:\n  a: 1\n  b: 2\n'),
        (Keys(add=["first.one", "absent.key"], remove={"no.such": ""}), "", ""),
    ],
)
def test_keys_change_and_all_else_stays(keys: Keys, before: str, after: str) -> None:
    example = "first:\n  one: 7\n  # About four.\n  four: 4\n\n# About fifth.\nfifth:\n  a: 1\n  b: 2\n"
    done = edit(TEXT, keys, example, SEEDED)
    assert done.text == TEXT.replace(before, after, 1)
    assert done.todo == []


def test_what_a_removed_key_held_is_told() -> None:
    assert edit(TEXT, Keys(remove={"first.three": ""}), None, "").removed == {
        "first.three": "three: - x: 1 y: 2"
    }


@pytest.mark.parametrize(
    ("text", "keys", "task"),
    [
        ("first: {one: 1}\n", Keys(remove={"first.one": ""}), "written in one line"),
        ("first: {one: 1}\n", Keys(add=["first.four"]), "written in one line: add to it\n  four: 4"),
        ("first:\n  one: 1\n  two: 2\n", Keys(rename={"first.one": "first.two"}), "there already"),
        ("first:\nother: {a: 1}\n", Keys(rename={"other": "first.other"}), "first is empty: put below it"),
        ("first: [\n", Keys(remove={"first.one": "see x"}), "by hand: remove first.one: see x"),
    ],
)
def test_what_cannot_be_changed_by_lines_is_left_to_the_owner(text: str, keys: Keys, task: str) -> None:
    done = edit(text, keys, "first:\n  four: 4\n", text)
    assert task in done.todo[0]
    assert done.text == text or "other" in text


def test_lines_keep_the_ends_of_windows() -> None:
    text = TEXT.replace("\n", "\r\n")
    done = edit(text, Keys(add=["first.four"], remove={"first.one": ""}), "first:\n  four: 4\n", text)
    assert done.text.count("\n") == done.text.count("\r\n") == text.count("\r\n")
