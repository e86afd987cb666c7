"""Write docs/dags.md from the DAGs themselves, and docs/tables.md from the folders of sql/bigquery.

python -m tools.docs            writes the pages
python -m tools.docs --check    tells whether they are as they would be written; exit code 1 if not
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from local.root import ROOT
from shopstream.tables.folder import Table, all_tables

PAGES = ROOT / "docs"
SQL_DIR = ROOT / "sql"
FIXTURES = ROOT / "tests" / "sql"
DAGS_INTRODUCTION = """\
# The DAGs

Made from the DAG files by `python -m tools.docs`: edit those, not this page. Airflow shows the same texts.
"""
TABLES_INTRODUCTION = """\
# The tables of BigQuery

Made from the folders of `sql/bigquery/` by `python -m tools.docs`: edit those, not this page. BigQuery shows
the same texts beside each table and column.

A summary is built for one day at a time and holds for each day what it was built from; *looks back* says on
how many days before its own. *Checks* run after each build of a day: those of severity fail fail the build,
the others warn. *Cases* are the days of `tests/sql/shop/` on which a summary is proven.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the page, or check it; 0 if it is right now."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    options = parser.parse_args(argv)
    pages = {
        "dags.md": ("the DAGs", dags_page(parse_dags())),
        "tables.md": ("the folders of sql/bigquery", tables_page(all_tables(SQL_DIR))),
    }
    if not options.check:
        for name, (_, text) in pages.items():
            (PAGES / name).write_text(text, encoding="utf-8")
        return 0
    changed = [_is_other(PAGES / name, source, text) for name, (source, text) in pages.items()]
    return int(any(changed))


def _is_other(path: Path, source: str, wanted: str) -> bool:
    """Tell whether a page is not as wanted, and if so how."""
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    if found == wanted:
        return False
    before, after = found.splitlines(keepends=True), wanted.splitlines(keepends=True)
    sys.stderr.writelines(difflib.unified_diff(before, after, path.name, f"{path.name} as {source} say"))
    print(
        f"docs/{path.name} is not what {source} say; write it by `python -m tools.docs`.",
        file=sys.stderr,
    )
    return True


def parse_dags() -> list[Any]:
    """Parse all DAG files, in order of dag_id, with an Airflow that keeps nothing.

    Raises:
        RuntimeError: a file cannot be parsed.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__LOAD_EXAMPLES="false",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/unused.db",
            AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        )
        sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(dag_folder=str(ROOT / "dags"))
    if bag.import_errors:
        raise RuntimeError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return [bag.dags[dag_id] for dag_id in sorted(bag.dags)]


def dags_page(dags: list[Any]) -> str:
    """Return the page: a table of all DAGs, then each with its texts, tasks and parameters."""
    table = ["| DAG | what it does | runs | tags |", "|---|---|---|---|"]
    for dag in dags:
        tags = ", ".join(sorted(dag.tags))
        table.append(f"| [{dag.dag_id}](#{dag.dag_id}) | {dag.description} | {_schedule(dag)} | {tags} |")
    return "\n".join([DAGS_INTRODUCTION, *table, *map(_dag_chapter, dags)])


def tables_page(tables: Sequence[Table]) -> str:
    """Return the page: a table of all tables and views by dataset, then each with its columns and checks."""
    tables = sorted(tables, key=lambda table: table.full_name)
    overview = []
    for dataset in sorted({table.dataset for table in tables}):
        overview += [
            f"\n## {dataset}\n",
            "| table | one row for each | looks back | checks | cases |",
            "|---|---|---|---|---|",
            *(_table_line(table) for table in tables if table.dataset == dataset),
        ]
    return (
        "\n".join(
            [TABLES_INTRODUCTION.rstrip(), *overview, "\n## Their columns", *map(_table_chapter, tables)]
        )
        + "\n"
    )


def _table_line(table: Table) -> str:
    metadata = table.metadata
    name = f"[{table.name}](#{table.full_name.replace('.', '')}){' (view)' if table.view else ''}"
    lookback, ahead = metadata.lookback_days, metadata.lookahead_days
    days = f"{lookback} day{'s' if lookback > 1 else ''}" if lookback else ""
    days += f", and {ahead} ahead" if ahead else ""
    failing = sum(check.severity == "fail" for check in table.checks)
    checks = f"{failing} fail, {len(table.checks) - failing} warn" if table.checks else ""
    fixture = FIXTURES / table.dataset / f"{table.name}.yaml"
    cases = len(yaml.safe_load(fixture.read_text(encoding="utf-8"))) if fixture.is_file() else ""
    return f"| {name} | {', '.join(metadata.grain)} | {days} | {checks} | {cases} |"


def _table_chapter(table: Table) -> str:
    metadata = table.metadata
    facts = [
        f"Made from {', '.join(metadata.reads)}" if metadata.reads else "",
        f"partitioned by {metadata.partition_by}" if metadata.partition_by else "",
        f"clustered by {', '.join(metadata.cluster_by)}" if metadata.cluster_by else "",
        f"owner {metadata.owner}",
    ]
    told = "; ".join(filter(None, facts))
    lines = [
        f"\n### {table.full_name}\n",
        metadata.description.strip(),
        "",
        f"{told[0].upper()}{told[1:]}.",
        "",
        "| column | type | what it is |",
        "|---|---|---|",
        *(
            f"| `{column.name}` | {column.type}{'' if column.mode == 'NULLABLE' else f' {column.mode}'} "
            f"| {' '.join(column.description.split()).replace('<', '&lt;')} |"
            for column in table.schema
        ),
    ]
    if table.checks:
        lines += [
            "",
            "Checks: " + ", ".join(f"`{check.name}` ({check.severity})" for check in table.checks) + ".",
        ]
    return "\n".join(lines)


def _dag_chapter(dag: Any) -> str:
    lines: list[str] = [
        f"\n## {dag.dag_id}\n",
        f"Runs {_schedule(dag)}, at most {dag.max_active_runs} at a time; "
        f"tasks: {', '.join(f'`{task.task_id}`' for task in dag.topological_sort())}.",
    ]
    if dag.params:
        lines += ["", "| parameter | values | what it means |", "|---|---|---|"]
        for name in dag.params:
            param = dag.params.get_param(name)
            lines.append(f"| `{name}` | {_values(param.schema)} | {param.description} |")
    return "\n".join([*lines, "", str(dag.doc_md).strip()]) + "\n"


def _schedule(dag: Any) -> str:
    if isinstance(dag.schedule, timedelta):
        return f"every {dag.schedule.total_seconds() / 60:g} minutes, or by hand"
    if isinstance(dag.schedule, list):
        return f"after an update of {', '.join(f'`{asset.uri}`' for asset in dag.schedule)}, or by hand"
    if expression := getattr(dag.timetable, "expression", None):
        return f"at `{expression}` (UTC), by backfill, or by hand"
    return "by hand"


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    named = ", ".join(str(schema.get("format", kind)) for kind in kinds if kind != "null")
    given = schema.get("expected", named)
    return f"{given}, or empty" if "null" in kinds else given


if __name__ == "__main__":
    sys.exit(main())
