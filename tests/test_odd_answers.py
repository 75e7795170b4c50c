"""Any answer at all: it renders a project that passes its checks, or is refused with a clear message.

Nothing in between, and nothing written outside of the output folder.
"""

import json
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from bake import PROMPTS, TEMPLATE, bake
from checks import broken_links, empty, files, lint, parse, unreadable
from cookiecutter.exceptions import FailedHookException, OutputDirExistsException
from cookiecutter.main import cookiecutter
from cookiecutter.utils import create_env_with_context
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from matrix import DEFAULTS, refusals
from pre_gen_project import EXAMPLES, INSTALLED, LONGEST_NAME, NAMES, TEXT

SPECIAL = st.sampled_from("'\"\\#:{}[]&*-|>%@`$!?,~<")
TEXTS = st.text(SPECIAL | st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1)
# Between blanks, what means something to a parser, a shell, Markdown, or a file system.
MARKS = r"""
' " \ ''' \" \u0041 \N C:\x it's a'b"c\ null ~ yes 1e3 0x1F 2013-01-01 .inf --- ... - ? !!python/name:os
a: #b &a *a | >- %YAML @a `id` $(id) ${HOME} $@ %s {0} {a} [tool.ruff] ]] a=1 <script> <!-- &amp;
](x) [a](b) # * |a| -rf --help 🛫 👩‍👩‍👧 ﬁ é ß 航班
""".split()
HIDDEN = [
    "\u202e",
    "\u200b",
    "\ufeff",
    "\x00",
    "\x1b[31m",
    "a\nb",
    "a\r\nb",
    "a\tb",
    "\u2028",
    "\ud800",
    " a",
    "a ",
    "",
]
ODD = st.sampled_from(
    [*MARKS, *HIDDEN, "- a", "a: b", "a #b", " ", "e\u0301", "a" * 5000, "é" * 60, "W" * 61]
)
GOOD_NAMES = {
    name: st.from_regex(pattern, fullmatch=True).filter(lambda value: len(value) <= LONGEST_NAME)
    for name, (_, pattern) in NAMES.items()
}
RESERVED = "class None lambda os test tests conf src usecase con nul __init__ -rf . .. ../there a/b / ~ *"
ODD_NAMES = st.sampled_from(
    [
        *(*RESERVED.split(), *sorted(INSTALLED)[::40]),
        *(
            "a\\b",
            "a.b",
            "a b",
            "a\nb",
            "Ä",
            "ß",
            "\u0131",
            "\u0661",
            "",
            "_",
            "-",
            "a-",
            "a__b",
            "1a",
            "\x00",
        ),
        *("a" * length for length in (LONGEST_NAME, LONGEST_NAME + 1, 300)),
    ]
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(TEXT, TEXTS | ODD) | {name: good | ODD_NAMES for name, good in GOOD_NAMES.items()},
)


def test_whatever_is_accepted_renders_files_that_parse(template: Path) -> None:
    """Many answers in a short time: only the files that they end up in, filled in without cookiecutter."""
    context = {"cookiecutter": PROMPTS | EXAMPLES | DEFAULTS}
    environment = create_env_with_context(context)
    texts = {name: path.read_text() for name, path in files(template / TEMPLATE)}
    templates = {
        name: environment.from_string(text)
        for name, text in texts.items()
        if not name.startswith(("src/", "tests/unit/", "tests/integration/"))
        and any(f"cookiecutter.{answer}" in text for answer in (*TEXT, *NAMES))
    }
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "conf/base.yml",
        "tests/conftest.py",
    } <= set(templates)

    lines = {name: source.render(context).count("\n") for name, source in templates.items()}

    @given(answers=ANSWERS)
    @settings(derandomize=True, deadline=None, max_examples=80, database=None)
    def check(answers: dict[str, str]) -> None:
        assume(not refusals(answers))
        for name, source in templates.items():
            text = source.render(cookiecutter=context["cookiecutter"] | answers)
            parse(name, text)
            if name == "conf/base.yml":
                name_of = context["cookiecutter"] | answers
                assert yaml.safe_load(text)["monitoring"]["title"] == name_of["project_name"]
            # As many lines as for harmless answers.
            assert text.count("\n") == lines[name]

    check()


def render_or_refuse(template: Path, answers: dict[str, str]) -> str:
    """Bake in a folder of its own. Returns what the refusal raised, or nothing; checks what either left."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "a", "b", "output")
        output.mkdir(parents=True)
        # As typed at a prompt: on the command line cookiecutter fills in what looks like a template.
        replay = Path(folder, "answers.json")
        replay.write_text(json.dumps({"cookiecutter": PROMPTS | EXAMPLES | DEFAULTS | answers}))
        refusal = ""
        try:
            cookiecutter(str(template), replay=str(replay), output_dir=str(output), default_config=True)
        except (FailedHookException, OutputDirExistsException, OSError, ValueError) as error:
            refusal = type(error).__name__
        made = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*"))
        inside = [name for name in made if name.startswith("a/b/output/")]
        assert [name for name in made if name not in inside] == ["a", "a/b", "a/b/output", "answers.json"]
        if refusal:
            assert inside == []
            return refusal
        slug = answers.get("project_slug", EXAMPLES["project_slug"])
        project = output / slug
        assert [path.name for path in output.iterdir()] == [slug]
        assert unreadable(project) == empty(project) == broken_links(project) == lint(project) == []
        return ""


def test_any_answers_render_a_sound_project_or_are_refused(
    template: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = set()

    @given(answers=ANSWERS)
    @example(answers={"project_slug": "a" * 300})
    @example(answers={"project_slug": "a\x00"})
    @example(answers={"project_slug": "/"})
    @example(answers={"description": "a\nb", "package_name": "class"})
    @settings(
        derandomize=True,
        deadline=None,
        max_examples=25,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def check(answers: dict[str, str]) -> None:
        expected = refusals(answers)
        capfd.readouterr()
        refusal = render_or_refuse(template, answers)
        said = capfd.readouterr().err
        assert bool(refusal) == bool(expected)
        if refusal == FailedHookException.__name__:
            assert said == "".join(f"{line}\n" for line in expected)
        else:
            # What cannot be a new folder's name does not come as far as the hook.
            assert said == ""
        seen.add(refusal)

    check()
    assert {"", FailedHookException.__name__} <= seen


def test_a_refusal_is_one_short_line_for_each_answer() -> None:
    @given(answers=ANSWERS)
    @settings(derandomize=True, deadline=None, max_examples=300, database=None)
    def check(answers: dict[str, str]) -> None:
        for line in refusals(answers):
            assert line.isprintable()
            assert re.match(rf"({'|'.join(answers)}): .+; for example: .+", line)
            assert len(line) < 400

    check()


@pytest.mark.parametrize("text", ["{" * 2 + " nothing }}", "{" + "% for %}", "{" + "% raw %}"])
def test_template_language_on_the_command_line_writes_nothing(
    template: Path, tmp_path: Path, text: str
) -> None:
    """Cookiecutter itself tries to fill it in, and says that it cannot."""
    with pytest.raises(Exception, match=r"\w"):
        bake(template, tmp_path, {"description": text})
    assert list(tmp_path.iterdir()) == []
