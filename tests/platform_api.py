"""The part of a CI platform's API that the rendered repository calls, served on loopback.

It stands in for GitHub, GitLab and Azure DevOps, which cannot be had here. It keeps what is sent to it, and
makes tags for real. It refuses what the platforms do not know, by what they publish: a call, and an answer of
its own.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from published import problems


class Platform:
    """What the platform knows: how CI went for commits, who approved the present run, what was commented.

    Whoever is asked approves a release; a model only the `approver` does, if there is one.
    """

    def __init__(self, origin: Path) -> None:
        self.origin = origin
        self.url = ""
        self.outcomes: list[tuple[str, bool]] = []
        self.approver = ""
        self.own = ""  # what names begin with, of workflows and environments of a project in a folder
        self.comments: list[str] = []

    def ci_ended(self, commit: str, *, passed: bool) -> None:
        self.outcomes.append((commit, passed))

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer to a request, or None where the path is unknown."""
        match method, path.split("/")[1:]:
            # GitHub
            case "GET", ["repos", _, _, "actions", "workflows", name, "runs"] if name == f"{self.own}ci.yml":
                assert query["event"] == "push"
                return {
                    "workflow_runs": self._runs("run_number", "head_sha", "conclusion", "success", "failure")
                }
            case "GET", ["repos", _, _, "actions", "runs", _, "approvals"]:
                given = self._given("production-release", "production-model").items()
                refused = ("production-model", "Grace", "rejected")
                reviews = [refused, *((*gate, "approved") for gate in given)]
                return [
                    {
                        "environments": [{"name": f"{self.own}{environment}"}],
                        "state": state,
                        "comment": "looks right" if state == "approved" else "not yet",
                        "user": {"login": person},
                    }
                    for environment, person, state in reviews
                ]
            case "POST", ["repos", _, _, "git", "refs"]:
                self._tag(body["ref"].removeprefix("refs/tags/"), body["sha"])
                return {"ref": body["ref"]}
            case "GET", ["repos", _, _, "issues", _, "comments"]:
                return [{"id": number, "body": text} for number, text in enumerate(self.comments)]
            case "POST", ["repos", _, _, "issues", _, "comments"]:
                self.comments.append(body["body"])
                return {}
            case "PATCH", ["repos", _, _, "issues", "comments", number]:
                self.comments[int(number)] = body["body"]
                return {}
            # GitLab
            case "GET", ["projects", _, "pipelines"]:
                assert query["source"] == "push"
                return self._runs("id", "sha", "status", "success", "failed")
            case "GET", ["projects", _, "merge_requests", _, "notes"]:
                return [{"id": number, "body": text} for number, text in enumerate(self.comments)]
            case "POST", ["projects", _, "merge_requests", _, "notes"]:
                self.comments.append(body["body"])
                return {}
            case "PUT", ["projects", _, "merge_requests", _, "notes", number]:
                self.comments[int(number)] = body["body"]
                return {}
            case "POST", ["projects", _, "repository", "tags"]:
                self._tag(query["tag_name"], query["ref"])
                return {"name": query["tag_name"]}
            # Azure DevOps
            case "GET", [_, "_apis", "build", "builds"]:
                runs = self._runs("id", "sourceVersion", "result", "succeeded", "failed")
                return {"value": [run | {"definition": {"name": "ci"}} for run in runs]}
            case "GET", [_, "_apis", "build", "builds", _, "timeline"]:
                stages = self._given("prod", "approve")
                return {"records": [record for stage in stages for record in checkpoint(stage)]}
            case "GET", [_, "_apis", "pipelines", "approvals"]:
                steps = [
                    {
                        "status": "approved",
                        "actualApprover": {"displayName": person},
                        "comment": "looks right",
                    }
                    for stage, person in self._given("prod", "approve").items()
                    if stage in query["approvalIds"].split(",")
                ]
                return {"value": [{"steps": steps}]}
            case "POST", [_, "_apis", "git", "repositories", _, "refs"]:
                self._tag(body[0]["name"].removeprefix("refs/tags/"), body[0]["newObjectId"])
                return {"value": [{"success": True}]}
            case "POST", [_, "_apis", "git", "repositories", _, "pullRequests", _, "threads"]:
                self.comments.append(body["comments"][0]["content"])
                return {}
        return None

    def _given(self, release: str, model: str) -> dict[str, str]:
        """Who has approved what, by the platform's names for the two gates."""
        return {gate: person for gate, person in ((release, "Grace"), (model, self.approver)) if person}

    def _runs(self, number: str, commit: str, outcome: str, good: str, bad: str) -> list[dict[str, Any]]:
        return [
            {number: index, commit: sha, outcome: good if passed else bad}
            for index, (sha, passed) in enumerate(self.outcomes)
        ]

    def _tag(self, name: str, commit: str) -> None:
        subprocess.run(["git", "-C", str(self.origin), "tag", name, commit], check=True)


def checkpoint(stage: str) -> list[dict[str, str]]:
    """What Azure's timeline holds of a stage that somebody approved; the approval is named after it."""
    return [
        {"id": f"stage {stage}", "type": "Stage", "identifier": stage},
        {"id": f"checkpoint {stage}", "type": "Checkpoint", "parentId": f"stage {stage}"},
        {
            "id": stage,
            "type": "Checkpoint.Approval",
            "result": "succeeded",
            "parentId": f"checkpoint {stage}",
        },
    ]


@contextmanager
def serve(platform: Platform) -> Iterator[Platform]:
    """Serve the API on a free port of the loopback interface, and set the platform's `url`."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            allowed = any("token" in str(value) for value in self.headers.values())
            body = json.loads(sent or b"null")
            answer = platform.answer(self.command, address.path, query, body) if allowed else None
            known = answer is not None
            wrong = problems(self.command, address.path, query, body, answer) if known else []
            self.send_response(400 if wrong else 200 if known else 404 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps(wrong or answer).encode())

        do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        platform.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield platform
        finally:
            server.shutdown()
            thread.join()
