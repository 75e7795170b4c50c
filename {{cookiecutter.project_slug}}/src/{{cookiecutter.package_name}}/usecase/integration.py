"""What the integration test runs on: two times, and what the sources have delivered by then.

Enough to train on by the first time, and some predictions with their labels by the second. With sources of your own,
choose times of theirs and let `deliver` copy a few of their files.
"""

from datetime import timedelta
from pathlib import Path

from . import replay

START = replay.START + timedelta(days=45)
END = START + timedelta(days=14)


def deliver(landing: Path) -> None:
    """Put the files into an empty landing zone, as they came."""
    for time in (START, END):
        replay.land(landing, time)
