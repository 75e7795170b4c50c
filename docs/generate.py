"""Put into build/docs what the pages quote from the template: its prompts, a render and an example.

mkdocs includes them by its snippets extension, so a page cannot say what the template does not.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bake import PROMPTS, update  # noqa: E402

TARGET = ROOT / "build" / "docs"


def prompts_table(prompts: dict[str, Any]) -> str:
    """The prompts that are asked, in their order: name, question, default, and what each choice means."""
    rows = ["| prompt | asks for | default |", "| --- | --- | --- |"]
    for name, default in prompts.items():
        if name.startswith("_"):
            continue
        label = prompts["__prompts__"][name]
        if isinstance(default, list):
            choices = "".join(f"<br>`{choice}`: {label[choice]}" for choice in default)
            rows.append(f"| `{name}` | {label['__prompt__']}{choices} | `{default[0]}` |")
        else:
            derived = "{{" in default
            rows.append(
                f"| `{name}` | {label} | {'made from the answers before it' if derived else default} |"
            )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "prompts.md").write_text(prompts_table(PROMPTS), encoding="utf-8")
    update(TARGET / "render", {})
    shutil.copytree(ROOT / "tests" / "foreign" / "seattle_weather", TARGET / "example", dirs_exist_ok=True)
