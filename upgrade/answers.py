"""The answers for the new version: recorded ones after the declared migrations, and those to new prompts."""

from collections.abc import Mapping

from migrations import RefusedError


def fit(prompts: Mapping[str, object], name: str, value: str) -> str:
    """Return the value if the prompt takes it. Raises RefusedError with what it takes instead."""
    choices = prompts[name]
    if isinstance(choices, list) and value not in choices:
        raise RefusedError(f"{name}: {value!r} is not one of {', '.join(choices)}")
    return value


def complete(
    prompts: Mapping[str, object],
    known: Mapping[str, str],
    given: Mapping[str, str],
    defaults: Mapping[str, str],
    interactive: bool,
) -> dict[str, str]:
    """Return the answers to every prompt: known ones as they are, new ones as given, asked for, or default.

    The default is what keeps the project as it was, if a migration names it, or else the prompt's own.
    """
    asked = {name: raw for name, raw in prompts.items() if not name.startswith("_")}
    for name, value in given.items():
        if name not in asked:
            raise RefusedError(f"--set {name}: no prompt asks for it; prompts are {', '.join(asked)}")
        if name in known:
            raise RefusedError(
                f"--set {name}: answered when the project was rendered ({known[name]!r}), not a new prompt"
            )
        fit(prompts, name, value)
    answers: dict[str, str] = {}
    for name in asked:
        if name in known:
            answers[name] = fit(prompts, name, known[name])
            continue
        answer = given.get(name) or _default(prompts, name, answers, defaults)
        if interactive and name not in given:
            answer = _ask(prompts, name, answer)
        answers[name] = fit(prompts, name, answer)
    return answers


def _default(
    prompts: Mapping[str, object], name: str, answers: Mapping[str, str], defaults: Mapping[str, str]
) -> str:
    # Imported late: it takes a while, and most upgrades bring no new prompt.
    from cookiecutter.prompt import render_variable
    from cookiecutter.utils import create_env_with_context

    raw = prompts[name]
    own = raw[0] if isinstance(raw, list) else raw
    environment = create_env_with_context({"cookiecutter": dict(prompts)})
    return defaults.get(name) or str(render_variable(environment, own, dict(answers)))


def _ask(prompts: Mapping[str, object], name: str, default: str) -> str:
    from cookiecutter.prompt import read_user_choice, read_user_variable

    raw, labels = prompts[name], prompts.get("__prompts__")
    if isinstance(raw, list):
        choices = [default, *(choice for choice in raw if choice != default)]
        return str(read_user_choice(name, choices, labels))
    return str(read_user_variable(name, default, labels))
