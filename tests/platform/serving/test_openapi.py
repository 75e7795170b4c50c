"""Whatever fits the server's own OpenAPI document, and whatever does not, is answered as that says: never by a 500."""

import shutil
import subprocess
from pathlib import Path

import pytest

from server import Start

pytestmark = pytest.mark.serving
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_request_is_answered_by_an_error_of_the_server(start: Start, tmp_path: Path) -> None:
    command = shutil.which("schemathesis")
    if command is None:
        pytest.skip("schemathesis is not installed: `make test-serving` installs it")
    running = start(limits={"per_second": 1e6})
    url, key = running.client.base_url, running.client.headers["X-API-Key"]
    options = ["--header", f"X-API-Key: {key}", "--checks", CHECKS, "--max-examples", "60", "--seed", "1"]
    done = subprocess.run(
        [command, "run", f"{url}/openapi.json", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_a_time_out_of_range_is_refused_as_one(time: str) -> None:
    import pyarrow as pa
    from pydantic import TypeAdapter, ValidationError

    from mlplatform.serving.schema import type_of

    with pytest.raises(ValidationError, match="out of range"):
        TypeAdapter(type_of(pa.timestamp("us"))).validate_json(f'"{time}"')
