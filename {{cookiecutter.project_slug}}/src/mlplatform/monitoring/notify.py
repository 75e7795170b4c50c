"""Tell people about alerts, through Apprise (https://appriseit.com) or on the console.

An alert is a row of `ops.alerts` before anybody is told: a message that cannot be delivered is reported, and
shown on the console instead, but it never stops the pipeline.
"""

import os
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape


def notify(title: str, lines: Iterable[str], services: Sequence[str] = (), console: Console | None = None) -> list[str]:
    """Send one message with a line per alert to every service; return what could not be delivered, and why.

    A service is named by the environment variable that holds its Apprise URL, since that is a secret. Without
    services, and whenever a delivery fails, the message is printed.
    """
    body = "\n".join(lines)
    failures = _send(title, body, services) if services and body else []
    if body and (failures or not services):
        console = console or Console(stderr=True)
        console.print(f"[bold yellow]{escape(title)}[/]\n{escape(body)}", soft_wrap=True)
        for failure in failures:
            console.print(f"[red]not delivered:[/] {escape(failure)}", soft_wrap=True)
    return failures


def _send(title: str, body: str, services: Sequence[str]) -> list[str]:
    from apprise import (
        Apprise,  # slow to import: paid only when there is something to send
    )

    failures = []
    for variable in services:
        url = os.environ.get(variable)
        if not url:
            failures.append(f"{variable}: this variable is not set")
            continue
        service = f"{variable} ({url.partition(':')[0]}://...)"
        apprise = Apprise()
        if not apprise.add(url):
            failures.append(f"{service}: Apprise does not understand this URL")
            continue
        for result in apprise.notify(body=body, title=title).results:
            if not result:
                reasons = "; ".join(entry.message for entry in result.logs() if entry.message)
                failures.append(f"{service}: {reasons or result.status.name.lower()}")
    return failures
