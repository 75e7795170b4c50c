"""Post a report on the merge request that this job runs for: python -m <package>.delivery.comment FILE."""

import sys
from pathlib import Path

from . import host
from .api import PlatformError

LONGEST = 60_000  # characters that a comment may have

if __name__ == "__main__":
    try:
        host.comment(Path(sys.argv[1]).read_text(encoding="utf-8")[:LONGEST])
    except PlatformError as problem:
        sys.exit(str(problem))
