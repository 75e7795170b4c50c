"""The data dictionary: every table and column that a project declares, in Markdown."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import takewhile

import pyarrow as pa

from mlplatform.contract import Project, SilverTable
from mlplatform.testing.dry_run import DryRun


def dictionary(project: Project, run: DryRun) -> str:
    """Of sources, Silver tables, features, entities and labels: what a row is, its keys, its columns and their types.

    `run` has found the columns. What a row of a SQL file is stands in the comment at its beginning.
    """
    return "\n".join(_lines(project, run)) + "\n"


def grain(project: Project, path: str) -> str:
    """What one row of a SQL file is: the first sentence of the comment at its beginning."""
    comment = takewhile(lambda line: line.startswith("--"), project.sql(path).splitlines()[1:])
    text = " ".join(line.removeprefix("--").strip() for line in comment)
    return text.split(". ")[0].rstrip(".")


def span(time: timedelta) -> str:
    """As in conf/: 7d, 12h, 5m or 10s."""
    seconds = int(time.total_seconds())
    size, unit = next(((n, unit) for n, unit in ((86400, "d"), (3600, "h"), (60, "m")) if seconds % n == 0), (1, "s"))
    return f"{seconds // size}{unit}"


def _lines(project: Project, run: DryRun) -> Iterator[str]:
    yield f"# Data dictionary of {project.title}"
    for source in project.sources:
        yield f"\n## Source {source.name}\n\n{source.description}\n\nColumns: {', '.join(source.columns)}."
    for table in project.tables:
        yield f"\n## {table.table}\n\n{table.description or grain(project, f'silver/{table.name}.sql')}.\n"
        yield f"From the source {table.source}, by sql/silver/{table.name}.sql. Key: {', '.join(table.keys)}.\n"
        yield "| column | type | may be missing | rules |\n| --- | --- | --- | --- |"
        yield from _silver(table, run.schemas[table.table])
    for view in project.views:
        yield f"\n## {view.table}\n\n{view.description}\n\n{grain(project, f'features/{view.name}.sql')}.\n"
        key = ", ".join(view.keys) or "none: a row holds for every entity"
        yield f"Key: {key}. A value counts for {span(view.ttl)}; it comes from the {span(view.lookback)} before.\n"
        yield from _columns(run.schemas[view.table])
    yield f"\n## Entities\n\n{project.entity.description}\n\n{grain(project, 'entities.sql')}.\n"
    yield f"Key: {', '.join(project.entity.keys)}.\n"
    yield from _columns(run.schemas["entities"])
    yield f"\n## Labels\n\n{project.labels.description}\n\n{grain(project, 'labels.sql')}.\n"
    yield f"Kind: {project.labels.kind}{': ' if project.labels.classes else ''}{', '.join(project.labels.classes)}."


def _silver(table: SilverTable, schema: pa.Schema) -> Iterator[str]:
    for field in schema:
        column = table.contract.columns.get(field.name)
        rules = "; ".join(str(check.error or check.name) for check in column.checks) if column else ""
        rules = rules.replace("|", "\\|")
        missing = "yes" if column is None or column.nullable else "no"
        yield f"| {field.name} | {field.type} | {missing} | {rules} |"


def _columns(schema: pa.Schema) -> Iterator[str]:
    yield "| column | type |\n| --- | --- |"
    yield from (f"| {field.name} | {field.type} |" for field in schema)
