"""What is rendered: which files, and that each of them is whole."""

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, ROOT, TEMPLATE, bake
from checks import broken_links, files, leftovers, lint, unreadable
from post_gen_project import OPTIONS
from post_gen_project import variant as variant_file

Render = Callable[..., Path]
LISTING = ROOT / "tests" / "rendered_files.txt"


def test_exactly_the_listed_files_are_rendered(variant: Path, answers: dict[str, str]) -> None:
    package = next((variant / "src").iterdir()).name
    rendered = {name.replace(f"src/{package}/", "src/<package>/") for name, _ in files(variant)}
    listed = {
        path
        for path, *conditions in map(str.split, LISTING.read_text().splitlines())
        if holds(conditions, answers)
    }
    assert not rendered - listed, f"rendered, but not in {LISTING.name}"
    assert not listed - rendered, f"in {LISTING.name}, but not rendered"


def holds(conditions: list[str], answers: dict[str, str]) -> bool:
    """Whether the answers, or else the defaults, fulfil each `prompt=choice|choice`."""
    pairs = [condition.split("=") for condition in conditions]
    return all(answers.get(prompt, PROMPTS[prompt][0]) in choices.split("|") for prompt, choices in pairs)


def test_no_file_is_empty(variant: Path) -> None:
    assert [name for name, path in files(variant) if not path.read_bytes().strip()] == []


def test_no_template_language_is_left(variant: Path) -> None:
    assert leftovers(variant) == []


def test_every_file_parses(variant: Path) -> None:
    assert unreadable(variant) == []


def test_every_relative_link_leads_somewhere(variant: Path) -> None:
    assert broken_links(variant) == []


def test_linter_and_formatter_have_nothing_to_say(variant: Path) -> None:
    assert lint(variant) == []


def test_nothing_is_left_to_do(variant: Path) -> None:
    marks = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")
    assert [name for name, path in files(variant) if marks.search(path.read_text(errors="replace"))] == []


def test_scripts_can_be_run(variant: Path) -> None:
    scripts = {name for name, path in files(variant) if path.read_bytes().startswith(b"#!")}
    assert scripts == {name for name, path in files(variant) if os.access(path, os.X_OK)}


def test_the_default_render_stays_small(render: Render) -> None:
    project = render()
    assert len(list(files(project))) <= 160
    assert sum(code_lines(path) for path in (project / "src").rglob("*.py")) <= 3700


def code_lines(path: Path) -> int:
    """Count the lines that hold code: not blank, no comment, no docstring."""
    text = path.read_text()
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip() and line.strip()[0] != "#") and n not in docstrings for n, line in lines)


def test_another_name_leaves_no_trace_of_the_default_name(render: Render) -> None:
    project = render(project_name="Bike Rides")
    trace = re.compile("flight[-_ ]delays", re.IGNORECASE)
    assert project.name == "bike-rides"
    assert [name for name, path in files(project) if trace.search(path.read_text(errors="replace"))] == []


@pytest.mark.parametrize("name", PROMPTS["license"])
def test_each_license_is_whole_and_names_its_holder(render: Render, name: str) -> None:
    text = (render(license=name, author="Ada Lovelace") / "LICENSE").read_text()
    first, last = {
        "MIT": ("MIT License", "DEALINGS IN THE\nSOFTWARE.\n"),
        "Apache-2.0": ("Apache License", "limitations under the License.\n"),
        "BSD-3-Clause": ("BSD 3-Clause License", "POSSIBILITY OF SUCH DAMAGE.\n"),
        "proprietary": ("Copyright (c) Ada Lovelace. All rights reserved.", "software or its use.\n"),
    }[name]
    assert text.strip().splitlines()[0] == first
    assert text.endswith(last)
    assert text.count("Copyright (c) Ada Lovelace") == 1


def test_two_renders_are_the_same(template: Path, render: Render, tmp_path: Path) -> None:
    again = bake(template, tmp_path, {})
    assert {n: p.read_bytes() for n, p in files(again)} == {n: p.read_bytes() for n, p in files(render())}


def test_an_answer_that_no_prompt_asks_for_is_an_error(template: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="problem_typ"):
        bake(template, tmp_path, {"problem_typ": "regression"})


def test_template_python_holds_no_template_language_but_the_package_in_imports(template: Path) -> None:
    allowed = re.compile(r"\s*(from|import) \{\{ cookiecutter\.package_name \}\}[. ]")
    found = []
    for name, path in files(template / TEMPLATE):
        if not name.endswith(".py"):
            continue
        # In src/ nothing is filled in: doubled braces there are Python's own.
        jinja = re.compile(r"\{[%#]" if name.startswith("src/") else r"\{[{%#]")
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if jinja.search(line) and not allowed.match(line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("name", OPTIONS)
def test_the_table_of_options_says_what_the_template_holds(template: Path, name: str) -> None:
    """A path that nobody has any more would be pruned without a word."""
    option = OPTIONS[name]
    inside = template / TEMPLATE

    def in_template(path: str) -> Path:
        return inside / path.replace("<package>", "{{cookiecutter.package_name}}")

    assert list(option.choices) == PROMPTS[name]
    for path, choices in option.paths.items():
        assert in_template(path).exists()
        assert set(choices) < set(option.choices)
    for path in option.variants:
        assert not in_template(path).exists()
        assert [c for c in option.choices if not in_template(variant_file(path, c)).exists()] == []


@pytest.mark.parametrize(
    ("check", "name", "content"),
    [
        (unreadable, "conf/base.yml", "a: [1, 2"),
        (unreadable, "pyproject.toml", "description = 'O'Brien'"),
        (unreadable, "data.json", "{'a': 1}"),
        (unreadable, "src/a.py", "def f(:"),
        (unreadable, "src/a.sql", "SELECT a FROM (SELECT b"),
        (unreadable, "src/b.sql", "SELEKT a FROM b"),
        (leftovers, "README.md", "# {{ cookiecutter.project_name }}"),
        (leftovers, "Makefile", "{% if a %}"),
        (leftovers, "src/{{ a }}.txt", "text"),
        (broken_links, "README.md", "[runbook](docs/runbook.md)"),
        (lint, "a.py", "import os\n"),
        (lint, "b.py", "x = {  'a':1 }\n"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_file_is_found(
    tmp_path: Path, check: Callable[[Path], list[str]], name: str, content: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert check(tmp_path)


def test_prompts_are_labelled() -> None:
    asked = {name for name in PROMPTS if not name.startswith("_")}
    assert set(PROMPTS["__prompts__"]) == asked
    for name, label in PROMPTS["__prompts__"].items():
        if isinstance(PROMPTS[name], list):
            assert [word for word in label if word != "__prompt__"] == PROMPTS[name]
