"""What the CI platforms publish of their APIs: no call and no answer of the stand-in may be unknown to it.

GitHub: its OpenAPI description (@octokit/openapi). GitLab: what python-gitlab calls, and types of answers
in @gitbeaker/core. Azure DevOps: calls and types of azure-devops-node-api.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bake import ROOT

HERE = ROOT / "build" / "published"
AZURE = HERE / "node_modules" / "azure-devops-node-api"
GITBEAKER = HERE / "node_modules" / "@gitbeaker" / "core" / "dist" / "index.d.ts"
# Functions of Azure's library, what is sent and what comes back.
AZURE_CALLS = {
    ("GET", "_apis/build/builds"): ("BuildApi", "getBuilds", "", "Build"),
    ("GET", "_apis/build/builds/{}/timeline"): ("BuildApi", "getBuildTimeline", "", "Timeline"),
    ("POST", "_apis/git/repositories/{}/refs"): (
        "GitApi",
        "updateRefs",
        "GitRefUpdate",
        "GitRefUpdateResult",
    ),
    ("POST", "_apis/git/repositories/{}/pullRequests/{}/threads"): (
        *("GitApi", "createThread", "GitPullRequestCommentThread", "GitPullRequestCommentThread"),
    ),
}
# Approvals of pipelines are in no package: held to Microsoft's reference, as it was copied here.
AZURE_APPROVALS = ("GET", "_apis/pipelines/approvals")
APPROVAL = {
    "approvalIds": {"approvalIds", "$expand", "api-version", "state", "top", "userIds"},
    "step": {"actualApprover", "assignedApprover", "comment", "history", "initiatedOn", "lastModifiedBy"}
    | {"lastModifiedOn", "order", "permissions", "status"},
    "approval": {"id", "steps", "status", "createdOn", "lastModifiedOn", "executionOrder", "instructions"}
    | {"minRequiredApprovers", "blockedApprovers", "permissions", "_links", "pipeline"},
}
GITLAB_ANSWERS = {"pipelines": "PipelineSchema", "notes": "MergeRequestNoteSchema", "tags": "TagSchema"}


def problems(method: str, path: str, query: Mapping[str, str], body: Any, answer: Any) -> list[str]:
    """What of a call and its answer the platform does not know; nothing where all is well."""
    if path.startswith("/repos/"):
        found = _github(method, path, query, body, answer)
    elif path.startswith("/projects/"):
        found = _gitlab(method, path, query, body, answer)
    else:
        found = _azure(method, path, query, body, answer)
    return [f"{method} {path}: {problem}" for problem in found]


def _matches(template: str, path: str) -> bool:
    return bool(re.fullmatch(re.sub(r"\\?\{[^}]*\\?\}", "[^/]+", re.escape(template)), path))


def _names(what: str, given: Iterator[str] | Any, known: Any, required: Any = ()) -> Iterator[str]:
    yield from (f"{what} {name} is not known" for name in sorted(set(given) - set(known)))
    yield from (f"{what} {name} is missing" for name in sorted(set(required) - set(given)))


# GitHub


@cache
def _openapi() -> dict[str, Any]:
    file = HERE / "package" / "generated" / "api.github.com.json"
    description: dict[str, Any] = json.loads(file.read_text())
    return description


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = _openapi()
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def _github(method: str, path: str, query: Mapping[str, str], body: Any, answer: Any) -> Iterator[str]:
    paths = _openapi()["paths"]
    found = sorted((t for t in paths if _matches(t, path)), key=lambda template: template.count("{"))
    if not found or method.lower() not in paths[found[0]]:
        yield "there is no such call"
        return
    call = paths[found[0]][method.lower()]
    parameters = [_resolved(parameter) for parameter in call.get("parameters", [])]
    asked = {p["name"]: p for p in parameters if p["in"] == "query"}
    yield from _names("query", query, asked, [name for name, p in asked.items() if p.get("required")])
    if body is not None or "requestBody" in call:
        sent = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        yield from _differences(body, sent, "body", whole=True)
    good = next(code for code in sorted(call["responses"]) if code.startswith("2"))
    schema = call["responses"][good].get("content", {}).get("application/json", {}).get("schema", {})
    yield from _differences(answer, schema, "answer")


def _differences(value: Any, schema: dict[str, Any], where: str, *, whole: bool = False) -> Iterator[str]:
    """What of a value a JSON schema does not know; with `whole`, what it asks for, too."""
    schema = _resolved(schema)
    for branches in (schema.get("anyOf"), schema.get("oneOf")):
        if branches:
            yield from min((list(_differences(value, b, where, whole=whole)) for b in branches), key=len)
            return
    if "allOf" in schema:
        parts = [_resolved(part) for part in schema["allOf"]]
        properties = {n: p for part in parts for n, p in part.get("properties", {}).items()}
        schema = {"type": "object", "properties": properties}
    kinds = {
        "string": str,
        "integer": int,
        "boolean": bool,
        "object": dict,
        "array": list,
        "number": float | int,
    }
    named = schema.get("type", [])
    wanted = [kinds[name] for name in ([named] if isinstance(named, str) else named) if name in kinds]
    if wanted and value is not None and not any(isinstance(value, kind) for kind in wanted):
        yield f"{where} {value!r} is no {named}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} {value!r} is none of {schema['enum']}"
    elif isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        yield from _names(f"{where}:", value, known, schema.get("required", ()) if whole else ())
        for name in value.keys() & known.keys():
            yield from _differences(value[name], known[name], f"{where}.{name}", whole=whole)
    elif isinstance(value, list):
        for item in value:
            yield from _differences(item, schema.get("items", {}), f"{where}[]", whole=whole)


# GitLab


def _gitlab(method: str, path: str, query: Mapping[str, str], body: Any, answer: Any) -> Iterator[str]:
    from gitlab import mixins
    from gitlab.v4 import objects

    kinds = {"GET": mixins.ListMixin, "POST": mixins.CreateMixin, "PUT": mixins.UpdateMixin}
    for manager in vars(objects).values():
        template = getattr(manager, "_path", None) or ""
        one = method == "PUT"
        if not (isinstance(manager, type) and _matches(template + "/{id}" * one, path)):
            continue
        if not issubclass(manager, kinds[method]):
            continue
        if method == "GET":
            yield from _names(
                "query",
                query,
                {*getattr(manager, "_list_filters", ()), "page", "per_page", "sort", "order_by"},
            )
        else:
            taken = manager._update_attrs if one else manager._create_attrs
            given = {**query, **(body or {})}
            yield from _names("attribute", given, (*taken.required, *taken.optional), taken.required)
        kind = GITLAB_ANSWERS[template.rpartition("/")[2]]
        types = _types(GITBEAKER)
        for item in answer if isinstance(answer, list) else [answer]:
            yield from _unknown(item, kind, types, "answer")
        return
    yield "there is no such call"


# Types of TypeScript


class Types(NamedTuple):
    """Of each interface the types of its members, and of each enumeration its names."""

    members: dict[str, dict[str, str]]
    enums: dict[str, set[str]]


@cache
def _types(file: Path) -> Types:
    text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
    members: dict[str, dict[str, str]] = {}
    declared = re.findall(
        r"^(?:export )?interface (\w+)(?: extends (\w+)[^{]*)? \{\n(.*?)^\}", text, re.M | re.S
    )
    for name, parent, inside in declared:
        own = dict(re.findall(r"^    (\w+)\??: (.+?);?$", inside, re.M))
        members.setdefault(name, {"": parent}).update(own)
    enums = re.findall(r"^export declare enum (\w+) \{\n(.*?)^\}", text, re.M | re.S)
    return Types(members, {name: set(re.findall(r"(\w+) =", inside.lower())) for name, inside in enums})


def _unknown(value: Any, kind: str, types: Types, where: str) -> Iterator[str]:
    """The members of a value that its type has not, and values that its enumeration has not."""
    kind = kind.rpartition(".")[2].removesuffix("[]")
    known: dict[str, str] = {}
    parent = kind
    while parent in types.members:
        known = types.members[parent] | known
        parent = types.members[parent][""]
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and known:
            yield from _names(f"{where}:", item, known)
            for name in item.keys() & known.keys():
                yield from _unknown(item[name], known[name], types, f"{where}.{name}")
        elif isinstance(item, str) and kind in types.enums and item.lower() not in types.enums[kind]:
            yield f"{where} {item!r} is no {kind}"


# Azure DevOps


def _azure(method: str, path: str, query: Mapping[str, str], body: Any, answer: Any) -> Iterator[str]:
    place = path.strip("/").partition("/")[2]  # without the project
    if (method, place) == AZURE_APPROVALS:
        yield from _names("query", query, APPROVAL["approvalIds"], ["approvalIds", "api-version"])
        for approval in answer["value"]:
            yield from _names("answer:", approval, APPROVAL["approval"])
            for step in approval["steps"]:
                yield from _names("answer.steps:", step, APPROVAL["step"])
        return
    calls = [
        call for (verb, template), call in AZURE_CALLS.items() if verb == method and _matches(template, place)
    ]
    if not calls:
        yield "there is no such call"
        return
    api, function, sent, got = calls[0]
    source = re.search(rf"^    {function}\(.*?^    \}}", (AZURE / f"{api}.js").read_text(), re.M | re.S)
    assert source, f"{api}.js has no {function}"
    area = re.search(r'getVersioningData\("[^"]+", "(\w+)"', source[0])
    assert area and area[1] == place.split("/")[1], f"{function} is not of {place}"
    asked = re.search(r"queryValues = \{(.*?)\n {16}\}", source[0], re.S)
    names = re.findall(r"^ {20}'?([$\w]+)'?:", asked[1], re.M) if asked else []
    yield from _names("query", query, [*names, "api-version"], ["api-version"])
    types = _types(AZURE / "interfaces" / f"{api.removesuffix('Api')}Interfaces.d.ts")
    if sent:
        yield from _unknown(body, sent, types, "body")
    listed = isinstance(answer, dict) and set(answer) <= {"value", "count"} and bool(answer)
    yield from _unknown(answer["value"] if listed else answer, got, types, "answer")
