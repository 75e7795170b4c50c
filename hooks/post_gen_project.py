"""Put what the answers chose in its place, and record where the render came from.

What depends on an answer lies in the folder `options/<prompt>=<choice>/`, below which a file has the path
that it gets; `+` joins choices, `,` joins conditions that must all hold. Of the platform, `src/mlplatform/`,
files and folders are only deleted: PLATFORM lists them.
Cookiecutter fills in this file before it runs it: doubled braces belong in the last block only.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

OVERLAYS = "options"
# Files and folders of the platform that only these choices have.
PLATFORM = {
    "delivery/hosts/azure_devops.py": "ci_platform=azure_devops",
    "delivery/hosts/by_hand.py": "ci_platform=none",
    "delivery/hosts/github.py": "ci_platform=github",
    "delivery/hosts/gitlab.py": "ci_platform=gitlab",
    "delivery/api.py": "ci_platform=github+gitlab+azure_devops",
    "config/promotion.py": "deployment_pattern=deploy_models",
    "cli/promotion.py": "deployment_pattern=deploy_models",
    "pipelines/promote.py": "deployment_pattern=deploy_models",
    "registry/transfer.py": "deployment_pattern=deploy_models",
    "engine/spark.py": "compute=spark+databricks",
    "cli/databricks.py": "compute=databricks",
    "delivery/databricks.py": "compute=databricks",
    "registry/unity.py": "compute=databricks",
    "storage/unity.py": "compute=databricks",
    "monitoring/service.py": "inference=online+streaming+all",
    "config/serving.py": "inference=online+all",
    "registry/rollout.py": "inference=online+all",
    "cli/serving.py": "inference=online+all",
    "features/online.py": "inference=online+all",
    "features/stores.py": "inference=online+all",
    "pipelines/collect.py": "inference=online+all",
    "pipelines/materialize.py": "inference=online+all",
    "testing/online.py": "inference=online+all",
    "serving": "inference=online+all",
    "cli/ways.py": "inference=all",
    "delivery/ways.py": "inference=all",
    "config/streaming.py": "inference=streaming+all",
    "cli/streaming.py": "inference=streaming+all",
    "streaming": "inference=streaming+all",
    "streaming/online.py": "inference=all",
    "engine/structured.py": "compute=spark,inference=streaming+all",
    "streaming/structured.py": "compute=spark,inference=streaming+all",
    "testing/streaming.py": "inference=streaming+all",
}


def holds(condition: str, answers: Mapping[str, str]) -> bool:
    """Whether the answers fulfil a condition such as `sample=flights,problem_type=binary+multiclass`."""
    parts = (part.partition("=") for part in condition.split(","))
    return all(answers[prompt] in choices.split("+") for prompt, _, choices in parts)


def place(project: Path, answers: Mapping[str, str]) -> None:
    """Move the chosen overlays of a fresh render into place; delete what belongs to other choices.

    A file that was there before the render stays, and is named.
    """
    for overlay in sorted((project / OVERLAYS).glob("*=*")):
        chosen = overlay.rglob("*") if holds(overlay.name, answers) else ()
        for source in sorted(path for path in chosen if path.is_file()):
            target = project / source.relative_to(overlay)
            if target.exists():
                print(f"{target.relative_to(project)} was there before and stays as it is")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    shutil.rmtree(project / OVERLAYS, ignore_errors=True)
    for path, condition in PLATFORM.items():
        unwanted = project / "src" / "mlplatform" / path
        if holds(condition, answers):
            continue
        if unwanted.is_dir():
            shutil.rmtree(unwanted)
        else:
            unwanted.unlink(missing_ok=True)


def record(project: Path, answers: Mapping[str, str]) -> None:
    """Write .cruft.json, from which `make update-template` and cruft know what to merge.

    Machine paths and private answers are left out. A render by cruft is left to cruft, which writes its own.
    """
    if "_repo_dir" not in answers:
        return
    template = _template(answers)
    # Not out of the answers: in a replay these are of the day that is replayed.
    source = json.loads((template / "cookiecutter.json").read_text()) if template else answers
    known = {name: answer for name, answer in answers.items() if not name.startswith("_")}
    content = {
        "template": source["_source"],
        "commit": commit(template) if template else None,
        "checkout": None,
        "context": {"cookiecutter": known | {"_version": source["_version"]}},
        "directory": None,
    }
    text = json.dumps(content, ensure_ascii=False, indent=2)
    (project / ".cruft.json").write_text(text + "\n", encoding="utf-8")


def _template(answers: Mapping[str, str]) -> Path | None:
    """Return the template's folder. A relative one counts from where cookiecutter was started."""
    for start in (answers["_output_dir"], os.environ.get("PWD", ".")):
        folder = Path(start, answers["_repo_dir"])
        if (folder / "hooks" / "post_gen_project.py").is_file():
            return folder
    return None


def commit(repository: Path) -> str | None:
    """Return the commit that is checked out there, read from git's files; None where they do not say."""
    git = repository / ".git"
    try:
        if git.is_file():  # a linked worktree, or a submodule
            git = repository / git.read_text().removeprefix("gitdir:").strip()
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref:"):
            name = head.removeprefix("ref:").strip()
            if (shared / name).is_file():
                head = (shared / name).read_text().strip()
            else:
                packed = (shared / "packed-refs").read_text().splitlines()
                head = next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return None
    return head if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", head) else None


if __name__ == "__main__":
    context = json.loads(r"""{{ cookiecutter | tojson }}""")
    place(Path.cwd(), context)
    record(Path.cwd(), context)
