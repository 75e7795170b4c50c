"""What the integration test runs on: two times, and what the sources have delivered by then.

Enough to train on by the first time, and some predictions with their labels by the second. With sources of your own,
choose times of theirs and let `deliver` copy a few of their files.
"""

from datetime import datetime
from pathlib import Path

from .replay import land

START = datetime(2013, 2, 15)
END = datetime(2013, 3, 1)


def deliver(landing: Path) -> None:
    """Put the files into an empty landing zone, as they came."""
    for time in (START, END):
        land(landing, time)
