"""Run Azure pipelines of a repository here: the script steps of each job, in order, in a fresh clone.

It reads as much of the format as the rendered files use, and refuses other expressions. A step sees PATH, the
machine's settings, the plain variables of the job's group and what its `env` declares, and nothing else.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from origin import Origin, Result, machine

OUTPUT = re.compile(r"##vso\[task\.setvariable variable=(\w+);isOutput=true\](.*)")


@dataclass
class Run:
    """One run of a pipeline, as far as it has come."""

    origin: Origin
    work: Path
    variables: dict[str, str]
    only: str = ""  # the one job to run
    group: dict[str, str] = field(default_factory=dict)  # plain variables of the present job's group
    results: dict[str, str] = field(default_factory=dict)  # of jobs and stages
    outputs: dict[str, str] = field(default_factory=dict)  # stage.job.step.name
    artifacts: dict[str, set[str]] = field(default_factory=dict)
    said: str = ""

    def holds(self, condition: str, needs: list[str], stage: str, job: str = "") -> bool:
        """Evaluate a condition of a stage, job or step whose predecessors are `needs`."""
        return str(self.value(condition, needs, stage, job)).lower() == "true"

    def value(self, expression: str, needs: list[str], stage: str, job: str = "") -> object:
        """Evaluate an expression: it is Python but for the names of some functions, and references."""
        outcomes = [self.results.get(name, "Skipped") for name in needs]
        before = f"{stage}." if stage else ""
        code = re.sub(r"variables\['([\w.]+)'\]", r"variable('\1')", expression)
        code = re.sub(r"dependencies\.(\w+)\.outputs\['([\w.]+)'\]", r"output('\1', '\2')", code)
        code = re.sub(r"dependencies\.(\w+)\.result", r"outcome('\1')", code)
        code = re.sub(
            r"stageDependencies\.(\w+)\.(\w+)\.outputs\['([\w.]+)'\]", r"output('\1', '\2.\3')", code
        )
        code = re.sub(r"\b(and|or|not|in)\(", r"\1_(", code)
        functions = {
            "and_": lambda *values: all(values),
            "or_": lambda *values: any(values),
            "not_": lambda value: not value,
            "in_": lambda value, *others: lower(value) in map(lower, others),
            "eq": lambda one, other: lower(one) == lower(other),
            "ne": lambda one, other: lower(one) != lower(other),
            "coalesce": lambda *values: next((value for value in values if value), ""),
            "succeeded": lambda: all(outcome == "Succeeded" for outcome in outcomes),
            "failed": lambda: "Failed" in outcomes,
            "succeededOrFailed": lambda: "Skipped" not in outcomes,
            "variable": lambda name: (
                self.variables.get(name) or self.outputs.get(f"{stage}.{job}.{name}", "")
            ),
            "output": lambda name, path: self.outputs.get(f"{before}{name}.{path}", ""),
            "outcome": lambda name: self.results.get(f"{before}{name}", "Skipped"),
        }
        return eval(code, {"__builtins__": {}}, functions)


def lower(value: object) -> str:
    """Azure compares without regard to case."""
    return str(value).lower()


def azure(
    origin: Origin,
    work: Path,
    name: str,
    reason: str,
    parameters: dict[str, str] | None = None,
    *,
    only: str = "",
    **more: str,
) -> Result:
    """Run azure-pipelines/<name>.yml at the origin's HEAD; `more` variables are set, `__` for a dot."""
    work.mkdir(parents=True, exist_ok=True)
    variables = {"Build.Reason": reason, "System.AccessToken": "token"}
    variables |= {name.replace("__", "."): value for name, value in more.items()}
    run = Run(origin, work, variables, only)
    pipeline = read(origin.folder / "azure-pipelines" / f"{name}.yml", parameters or {})
    declare(run, pipeline.get("variables", {}))
    stages = pipeline.get("stages") or [{"stage": "all", "jobs": pipeline["jobs"]}]
    previous: list[str] = []
    for stage in stages:
        needs = as_list(stage.get("dependsOn", previous))
        previous = [stage["stage"]]
        run.results[stage["stage"]] = run_stage(run, stage, needs)
    jobs = {name: word for name, word in run.results.items() if "." in name and word != "Skipped"}
    words = {"Succeeded": "success", "Failed": "failure"}
    return Result({name.split(".")[1]: words[word] for name, word in jobs.items()}, run.said, run.artifacts)


def read(path: Path, parameters: dict[str, str]) -> dict[str, Any]:
    """Read a pipeline, with its parameters filled in and its templates in their place."""
    text = path.read_text()
    given = {entry["name"]: entry.get("default") for entry in yaml.safe_load(text).get("parameters", [])}
    given |= parameters
    text = re.sub(r"\$\{\{ parameters\.(\w+) \}\}", lambda match: str(given[match[1]]), text)
    assert "${{" not in text, f"{path.name} holds an expression that this runner does not read"
    pipeline: dict[str, Any] = yaml.safe_load(text)
    stages = []
    for stage in pipeline.get("stages", []):
        if "template" in stage:
            stages += read(path.parent / stage["template"], stage.get("parameters", {}))["stages"]
        else:
            stages.append(stage)
    return pipeline | ({"stages": stages} if stages else {})


def declare(run: Run, variables: Any, stage: str = "", job: str = "") -> None:
    """Add declared variables; a group stands for what the machine has."""
    pairs = variables.items() if isinstance(variables, dict) else [
        (entry["name"], entry["value"]) for entry in variables if "name" in entry
    ]  # fmt: skip
    for name, value in pairs:
        runtime = re.fullmatch(r"\$\[(.*)\]", str(value))
        run.variables[name] = str(run.value(runtime[1], [], stage, job)) if runtime else str(value)


def run_stage(run: Run, stage: dict[str, Any], needs: list[str]) -> str:
    if not run.holds(stage.get("condition", "succeeded()"), needs, stage=""):
        return "Skipped"
    outcomes = []
    for job in stage["jobs"]:
        name = job.get("job") or job["deployment"]
        before = [f"{stage['stage']}.{other}" for other in as_list(job.get("dependsOn", []))]
        if run.only in ("", name) and run.holds(
            job.get("condition", "succeeded()"), before, stage["stage"], name
        ):
            outcomes.append(run_job(run, stage["stage"], name, job))
        else:
            outcomes.append("Skipped")
        run.results[f"{stage['stage']}.{name}"] = outcomes[-1]
    return "Failed" if "Failed" in outcomes else "Succeeded"


def run_job(run: Run, stage: str, name: str, job: dict[str, Any]) -> str:
    declare(run, job.get("variables", {}), stage="", job="")
    grouped = any("group" in entry for entry in job.get("variables", []))
    run.group = {"STORAGE": str(run.origin.storage)} if grouped else {}
    deployment = "deployment" in job
    steps = job["strategy"]["runOnce"]["deploy"]["steps"] if deployment else job["steps"]
    folder = run.work / f"{stage}.{name}"
    result = "Succeeded"
    for step in steps:
        run.results["step"] = result
        condition = step.get("condition", "succeeded()")
        if run.holds(condition, ["step"], stage, name) and not run_step(
            run, stage, name, step, folder, deployment
        ):
            result = "Failed"
    del run.results["step"]
    return result


def run_step(run: Run, stage: str, job: str, step: dict[str, Any], folder: Path, deployment: bool) -> bool:
    """Run one step; returns whether it succeeded."""
    pipes, sources = run.work / "artifacts", folder / "s"
    if "checkout" in step:
        depth = [] if step.get("fetchDepth") == "0" else ["--depth", "1"]
        tags = [] if step.get("fetchTags") == "true" else ["--no-tags"]
        source = f"file://{run.origin.folder}"
        subprocess.run(["git", "clone", "--quiet", *depth, *tags, source, str(sources)], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach"], cwd=sources, check=True)
        return True
    if "publish" in step:
        found, target = sources / step["publish"], pipes / step["artifact"]
        if not found.exists():
            return False
        target.mkdir(parents=True, exist_ok=True)
        _copy(found, target)
        run.artifacts[step["artifact"]] = {path.name for path in target.iterdir()}
        return True
    if "download" in step:
        shutil.copytree(pipes / step["artifact"], folder / step["artifact"])
        return True
    environment = {
        **machine(run.origin),
        "PATH": os.environ["PATH"],
        "HOME": str(run.work),
        "PIPELINE_WORKSPACE": str(folder),
        "SYSTEM_COLLECTIONURI": f"{run.origin.platform.url}/",
        "SYSTEM_TEAMPROJECTID": "project",
        "BUILD_REPOSITORY_ID": "repository",
        "BUILD_BUILDID": "1",
        "SYSTEM_STAGENAME": stage,
        "SYSTEM_PULLREQUEST_PULLREQUESTID": "7",
        **{name: value for name, value in run.variables.items() if name in ("AS_OF", "AGENT_ISSELFHOSTED")},
        **run.group,
        **{
            name: re.sub(r"\$\(([\w.]+)\)", lambda match: run.variables.get(match[1], match[0]), str(value))
            for name, value in step.get("env", {}).items()
        },
    }
    script = ["bash", "-e", "-c", step["script"]]
    done = subprocess.run(script, cwd=sources, env=environment, capture_output=True, text=True)
    run.said += done.stdout + done.stderr
    for variable, value in OUTPUT.findall(done.stdout):
        path = [stage, job, *([job] if deployment else []), step.get("name", ""), variable]
        run.outputs[".".join(path)] = value
    return done.returncode == 0


def _copy(found: Path, target: Path) -> None:
    if found.is_dir():
        shutil.copytree(found, target, dirs_exist_ok=True)
    else:
        shutil.copy(found, target)


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
