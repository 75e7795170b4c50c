"""Render versions of the template, each in a process of its own: nothing of one reaches the other."""

import logging
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from migrations import RefusedError


def render(jobs: Sequence[tuple[Path, Mapping[str, str]]], output: Path) -> list[Path]:
    """Render templates with their answers, at the same time, and return the rendered folders.

    Raises RefusedError if one does not render; its hook has then said why on standard error.
    """
    # Imported once, before the processes part: that is half of their work.
    import cookiecutter.main  # noqa: F401

    context = multiprocessing.get_context("fork")
    started = []
    for template, answers in jobs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_render, args=(template, answers, output / template.name, theirs))
        process.start()
        theirs.close()
        started.append((template, process, ours))
    folders = []
    for template, process, ours in started:
        try:
            folder, error = ours.recv()
        except EOFError:
            folder, error = None, "its process ended early"
        process.join()
        if folder is None:
            raise RefusedError(
                f"the {template.name} version does not render with this project's answers: {error}"
            )
        folders.append(Path(folder))
    return folders


def _render(template: Path, answers: Mapping[str, str], output: Path, result: Connection) -> None:
    from cookiecutter.main import cookiecutter

    logging.disable()
    try:
        with tempfile.TemporaryDirectory() as replays:
            folder = cookiecutter(
                str(template),
                no_input=True,
                extra_context=dict(answers),
                output_dir=str(output),
                # The defaults and nothing of this machine's; without it a replay lands in the home folder.
                default_config={"replay_dir": replays},
            )
        result.send((folder, None))
    except Exception as error:
        result.send((None, str(error)))
