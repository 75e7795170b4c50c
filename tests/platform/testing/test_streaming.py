"""The check of streams passes on the tiny project, and fails on one that is broken in the way that it looks for."""

import pytest

from copies import Copy
from mlplatform.testing.conformance import World
from mlplatform.testing.streaming import a_stream_equals_batch

pytestmark = pytest.mark.stream


def test_a_stream_of_the_tiny_project_equals_its_batch(copy: Copy) -> None:
    a_stream_equals_batch(World(*copy.load()))


def test_a_view_that_looks_back_further_than_it_says_is_found(copy: Copy) -> None:
    copy.edit("features.py", "lookback=timedelta(days=7)", "lookback=timedelta(hours=1)")
    with pytest.raises(AssertionError, match=r"features.kind_history: "):
        a_stream_equals_batch(World(*copy.load()))
