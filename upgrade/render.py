"""Render one version of the template with given answers, in a process of its own.

As a script: python upgrade/render.py TEMPLATE OUTPUT, answers as JSON on standard input; prints the folder.
"""

import json
import sys
import tempfile

from cookiecutter.main import cookiecutter

if __name__ == "__main__":
    template, output = sys.argv[1:]
    with tempfile.TemporaryDirectory() as replays:
        project = cookiecutter(
            template,
            no_input=True,
            extra_context=json.load(sys.stdin),
            output_dir=output,
            # The defaults and nothing of this machine's; without it a replay lands in the home folder.
            default_config={"replay_dir": replays},
        )
    print(project)
