"""Which combinations of choices are rendered: rows that cover every valid pair, and a few with names.

A prompt that is added to cookiecutter.json is covered here without more work.
"""

from collections.abc import Mapping
from itertools import combinations, product

from bake import ROOT
from covertable import make
from pre_gen_project import EXAMPLES, choices_of, problems

Answers = dict[str, str]
CHOICES = {name: list(choices) for name, choices in choices_of(ROOT).items()}
DEFAULTS = {name: choices[0] for name, choices in CHOICES.items()}
# What is not named has its default. The defaults are also what renders most.
NAMED: dict[str, dict[str, str]] = {
    "defaults": {},
    "smallest": {"sample": "none"},
    "regression": {"problem_type": "regression"},
    "classes": {"problem_type": "multiclass", "sample": "none"},
    "served on spark": {"inference": "all", "compute": "spark", "sample": "none"},
    "databricks": {"compute": "databricks", "cloud": "aws", "sample": "none"},
    "promoted": {"problem_type": "regression", "sample": "none", "deployment_pattern": "deploy_models"},
}
# Of these only some go together: hooks/pre_gen_project.py says which.
TOGETHER = ("compute", "cloud")
# What asks for every package.
EVERYTHING = {"inference": "all", "compute": "spark"}


def refusals(answers: Mapping[str, str]) -> list[str]:
    """What the hook says against these answers, others being harmless."""
    return problems(EXAMPLES | DEFAULTS | dict(answers), CHOICES)


def valid(answers: Answers) -> bool:
    """Whether the hook accepts these answers, others being harmless."""
    return not refusals(answers)


def pairs(row: Answers) -> set[frozenset[tuple[str, str]]]:
    """The pairs of choices that a row holds."""
    return {frozenset(pair) for pair in combinations(sorted(row.items()), 2)}


def valid_pairs() -> set[frozenset[tuple[str, str]]]:
    """Every pair of choices that some valid combination holds: all combinations are looked at."""
    rows = (dict(zip(CHOICES, row, strict=True)) for row in product(*CHOICES.values()))
    return {pair for row in rows if valid(row) for pair in pairs(row)}


def identify(answers: Answers) -> str:
    """A readable name: a row's own, or the choices that are not defaults."""
    for name, named in NAMED.items():
        if DEFAULTS | named == DEFAULTS | answers:
            return name
    return ",".join(f"{name}={choice}" for name, choice in answers.items() if choice != DEFAULTS[name])


def _rows() -> list[dict[str, str]]:
    """Rows that cover all pairs. Of TOGETHER one factor is made: constraints give four times as many rows."""
    each = product(*(CHOICES[name] for name in TOGETHER))
    several = [values for values in each if valid(DEFAULTS | dict(zip(TOGETHER, values, strict=True)))]
    factors = {name: choices for name, choices in CHOICES.items() if name not in TOGETHER}
    pinned = []
    for named in NAMED.values():
        row = DEFAULTS | named
        values = tuple(row[name] for name in TOGETHER)
        pinned.append({name: row[name] for name in factors} | {"together": several.index(values)})
    made = make(factors | {"together": list(range(len(several)))}, presets=pinned)
    rows = [dict(row) for row in made]
    return [row | dict(zip(TOGETHER, several[row.pop("together")], strict=True)) for row in rows]


ROWS = {identify(row): row for row in _rows()}
