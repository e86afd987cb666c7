"""What the names of tables promise: what the stream inserts into is changed by nobody."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from local.root import ROOT
from shopstream.settings import settings
from shopstream.stream.jobs import stream_events_launch
from shopstream.tables import names
from shopstream.tables.folder import all_tables

PLUGINS = ROOT / "plugins"
CHANGE = re.compile(r"\b(?:UPDATE|DELETE FROM|MERGE(?: INTO)?|TRUNCATE TABLE) +`?([\w.{}]+)")
FORGETTING = "holder.name"
"""What forget_customer takes a customer out of: whatever table holds them, one of the stream too."""
REPLACING = ("replace_row", "replace_statement")
"""The functions whose statements change rows of the table that they are given."""


def streamed_tables() -> set[str]:
    """The tables that the stream's job is told to insert into."""
    parameters = stream_events_launch(settings(), "v1", update=False)["parameters"]
    return {value.partition(":")[2] for name, value in parameters.items() if name.endswith("_table")}


def changed_tables() -> Iterator[tuple[str, str]]:
    """Each place in plugins/ or sql/ that changes or deletes rows of a table of BigQuery, and the table."""
    for path in sorted((ROOT / "sql" / "bigquery").rglob("*.sql")):
        yield from ((str(path), table) for table in CHANGE.findall(path.read_text()))
    for path in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                place = f"{path}:{node.lineno}"
                # A table of Spanner has no dataset.
                changed = [table for table in CHANGE.findall(ast.unparse(node)) if re.search(r"[.{]", table)]
                yield from ((place, table.strip("{}")) for table in changed)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REPLACING:
                table = node.args[0] if node.func.id == "replace_statement" else node.args[1]
                yield f"{path}:{node.lineno}", ast.unparse(table)


def test_no_statement_changes_a_table_that_the_stream_inserts_into() -> None:
    """BigQuery may refuse to change rows that were streamed in within the last 30 minutes.

    forget_customer alone does, and waits until BigQuery takes it.
    """
    known = {table.full_name for table in all_tables(settings().sql_dir)}
    built = {table.full_name for table in all_tables(settings().sql_dir) if table.query}
    found = set()
    for place, name in changed_tables():
        # Who is given a table hands it on, or builds it.
        if name in ("table", "table.full_name"):
            found |= built
            continue
        if name == FORGETTING and "/forget/" in place:
            continue
        table = getattr(names, name, name)
        assert table in known, f"{place}: which table is {name}?"
        found.add(table)
    assert streamed_tables() == {names.EVENTS_STREAM, names.REJECTED_EVENTS_STREAM}
    assert {names.EVENTS_BATCH, names.REJECTED_EVENTS_BATCH, names.LOADS, names.STREAM_CHECKS} <= found
    assert not found & streamed_tables()
