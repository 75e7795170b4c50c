"""Commands of the stream."""

from datetime import datetime
from typing import Annotated

import typer

from mlplatform.cli import FORMATS, EnvOption, checked

app = typer.Typer()


@app.command("stream")
def stream_command(
    env: EnvOption = "dev",
    until: Annotated[
        datetime | None,
        typer.Option(formats=FORMATS, metavar="TIME", help="Replay: let time run up to here (UTC), and end."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=FORMATS, metavar="TIME", help="Where the stream begins, the first time. Default: now."),
    ] = None,
    step: Annotated[str, typer.Option(help="Replay: the time from one micro-batch to the next.")] = "1h",
    speed: Annotated[
        float | None, typer.Option(min=0, help="Replay: times as fast as the clock. Default: as fast as it can.")
    ] = None,
    from_landing: Annotated[
        bool, typer.Option("--from-landing", help="Replay: first send the files that have landed as events.")
    ] = False,
) -> None:
    """Score events as they come, until it is told to stop (Ctrl-C, SIGTERM)."""
    from pydantic import TypeAdapter

    from mlplatform.config import Duration
    from mlplatform.config.streaming import StreamingSettings
    from mlplatform.streaming.delta import feed
    from mlplatform.streaming.stream import Stream, replayed, run, told_to_stop, wall_clock

    at, stop = checked(env), told_to_stop()
    stream = Stream(at, since, until)
    if from_landing:
        for source, events in feed(at, stream.began, until or datetime.max).items():
            typer.echo(f"stream: {source}: {events:,} events sent")
    every = at.config.of(StreamingSettings).every
    length = TypeAdapter(Duration).validate_python(step)
    times = replayed(stream.last, until, length, speed, stop) if until else wall_clock(every, stop)
    batches = run(stream, times, stop, lambda text: typer.echo(f"stream: {text}"), live=until is None)
    stream.close()
    typer.echo(f"stream: ended after {batches:,} micro-batches, at {stream.last}")
