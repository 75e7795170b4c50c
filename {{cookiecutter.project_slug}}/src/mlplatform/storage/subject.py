"""What is to be forgotten: values of columns, which are found in rows by column and in text as words."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from mlplatform.errors import UserError

FORGOTTEN = "[forgotten]"
_SHORT = 4  # characters: shorter values are words of many texts


@dataclass(frozen=True)
class Subject:
    """`values` by column, as text. A row is about the subject where every column has its value."""

    values: Mapping[str, str]

    @property
    def columns(self) -> str:
        return ", ".join(self.values)

    @property
    def row(self) -> pa.Table:
        """The values as a table of one row, to join with: they belong into no SQL, which logs and errors may show."""
        return pa.table({name: pa.array([value], pa.string()) for name, value in self.values.items()})

    def named_in(self, columns: Sequence[str]) -> bool:
        """Whether a table with these columns can say which of its rows are about the subject."""
        return set(self.values) <= set(columns)

    def is_row(self, row: Mapping[str, str | None]) -> bool:
        return all(row.get(name) == value for name, value in self.values.items())

    def is_in(self, text: str | None) -> bool:
        """Whether a refused line, or the like, holds every value as a word."""
        return bool(text) and all(pattern.search(text or "") for pattern in self._words.values())

    def redacted(self, text: str) -> str:
        """The text without the values; of short ones only those that stand behind the name of their column."""
        for name, value in self.values.items():
            pattern = self._words[name]
            if len(value) < _SHORT:
                pattern = re.compile(rf"(?<={re.escape(name)}[ =]){pattern.pattern}")
            text = pattern.sub(FORGOTTEN, text)
        return text

    @cached_property
    def _words(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(rf"(?<!\w)(?:{_spellings(value)})(?!\w)") for name, value in self.values.items()}


def subject_of(texts: Sequence[str]) -> Subject:
    """The subject that `column=value` texts mean; raises UserError."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, _, value) in zip(texts, pairs, strict=True) if not (name and value)]:
        raise UserError(f"{', '.join(wrong)}: wanted is <column>=<value>, such as item_id=I-17")
    return Subject({name: value for name, _, value in pairs})


def _spellings(value: str) -> str:
    """A value as it is, and as Python and JSON write it."""
    spelt = (value, repr(value)[1:-1], json.dumps(value)[1:-1])
    return "|".join(re.escape(text) for text in dict.fromkeys(spelt))
