"""Every test has a copy of the tiny project of its own."""

from pathlib import Path

import pytest

from copies import Copy, make


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.syspath_prepend(tmp_path / "src")
    return make(tmp_path)
