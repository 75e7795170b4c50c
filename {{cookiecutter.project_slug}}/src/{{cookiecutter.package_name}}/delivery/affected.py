"""Tell the jobs that follow whether more than prose has changed: python -m <package>.delivery.affected COMMIT."""

import sys

from ..config import find_project
from . import host
from .release import only_prose_changed

if __name__ == "__main__":
    host.output("code", "false" if only_prose_changed(find_project(), since=sys.argv[1]) else "true")
