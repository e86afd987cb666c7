"""What sql/bigquery says: a table is a folder <dataset>/<table>/.

schema.yaml    the columns: name, type, mode, description
metadata.yaml  owner, description, grain, partitioning, clustering, labels, what it reads, cost limit
query.sql      one SELECT of one day's rows, which takes the day as @day: a summary, if its dataset is shop
view.sql       a view: one SELECT
checks.sql     named checks of a summary's day, each one SELECT that returns what is wrong; no rows = passed

A folder with neither query.sql nor view.sql is a table that others write. Files are read when a function is
called, never on import, and checked while they are read, so that a slip is told with its file.
"""

# Only checked identifiers and our own files become part of a statement; the day is a parameter.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SUMMARIES = (
    "shop.brand_performance",
    "shop.cart_abandonment",
    "shop.customer_purchases",
    "shop.daily_event_count",
    "shop.hourly_price_by_event_type",
    "shop.most_visited_subcategories",
    "shop.product_performance",
    "shop.purchase_conversion_rate",
    "shop.purchase_conversion_volume",
    "shop.purchase_funnels",
    "shop.revenue_daily",
    "shop.customer_retention",
    "shop.customer_value",
)
"""The tables of shop with a query.sql, in dependency order: known without reading files, for a DAG's tasks.

A test holds it against the folders.
"""

SUMMARIES_READ: Mapping[str, tuple[str, ...]] = {
    "shop.customer_retention": ("shop.customer_purchases",),
    "shop.customer_value": ("shop.customer_purchases",),
}
"""Those of SUMMARIES that read others of them, with these: the order of a DAG's tasks. A test holds it."""

TYPES = ("BOOL", "BYTES", "DATE", "FLOAT64", "INT64", "JSON", "NUMERIC", "STRING", "TIMESTAMP")
MODES = ("REQUIRED", "NULLABLE", "REPEATED")
LEVELS = ("fail", "warn")

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_CHECK_HEADER = re.compile(r"^-- check: *(?P<name>[^,\n]*?), *level: *(?P<level>[^\n]*?) *$", re.MULTILINE)


class TableError(ValueError):
    """A folder of sql/bigquery is not as it must be; the message names the file, the fault and the remedy."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `type` is one of TYPES, `mode` one of MODES."""

    name: str
    type: str
    mode: str
    description: str


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: `sql` returns the offending rows of @day; `level` is fail or warn."""

    name: str
    level: str
    sql: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """What metadata.yaml says of a table.

    `grain` names the columns that identify a row, and is empty where rows may repeat. `reads` names the
    tables of the query, as dataset.table. `lookback_days` is how many days before its own day a build reads
    or writes. `partition_by` is the DATE column of the daily partitions; a view has none.
    `maximum_bytes_billed` limits each job of a build: it is about three times what the dearest build or check
    of a day of the published data set reads with both paths full, but 1 GiB at least.
    """

    owner: str
    description: str
    grain: tuple[str, ...]
    partition_by: str | None
    cluster_by: tuple[str, ...]
    labels: Mapping[str, str]
    reads: tuple[str, ...]
    lookback_days: int
    maximum_bytes_billed: int


@dataclass(frozen=True, slots=True)
class Table:
    """One folder of sql/bigquery; a summary has a `query`, a view a `view`, other tables neither."""

    dataset: str
    name: str
    schema: tuple[Column, ...]
    metadata: Metadata
    query: str | None
    view: str | None
    checks: tuple[Check, ...]

    @property
    def full_name(self) -> str:
        """`dataset.table`, as queries name it; the client's project completes it."""
        return f"{self.dataset}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns, in the order of schema.yaml."""
        return tuple(column.name for column in self.schema)


def load_table(sql_dir: Path, full_name: str) -> Table:
    """Read and check the folder of one table, such as `shop.daily_event_count`.

    Raises:
        TableError: there is no such folder, or one of its files is not as it must be.
    """
    dataset, _, name = full_name.partition(".")
    folder = Path(sql_dir) / "bigquery" / dataset / name
    if not name or not folder.is_dir():
        raise TableError(f"there is no table {full_name!r}: {folder} is not a folder; use <dataset>.<table>")
    schema = _read_schema(folder / "schema.yaml")
    query, view = _read_sql(folder / "query.sql"), _read_sql(folder / "view.sql")
    if query and view:
        raise TableError(f"{folder}: has query.sql and view.sql; keep one of them")
    metadata = _read_metadata(folder / "metadata.yaml", schema, is_view=view is not None)
    if query and "@day" not in query:
        raise TableError(f"{folder / 'query.sql'}: does not use @day; a summary is built one day at a time")
    return Table(dataset, name, schema, metadata, query, view, _read_checks(folder / "checks.sql"))


def all_tables(sql_dir: Path) -> list[Table]:
    """Read every folder, ordered so that a table comes after all that it reads; else by name.

    Raises:
        TableError: a folder is not as it must be, or reads a table without folder, or itself in a circle.
    """
    folders = sorted(path.parent for path in (Path(sql_dir) / "bigquery").glob("*/*/schema.yaml"))
    waiting = {
        table.full_name: table
        for table in (load_table(sql_dir, f"{folder.parent.name}.{folder.name}") for folder in folders)
    }
    for table in waiting.values():
        if unknown := [name for name in table.metadata.reads if name not in waiting]:
            raise TableError(
                f"{table.full_name}: reads {', '.join(unknown)}, which has no folder in sql/bigquery"
            )
    ordered: list[Table] = []
    while waiting:
        ready = [table for table in waiting.values() if not set(table.metadata.reads) & waiting.keys()]
        if not ready:
            raise TableError(f"these tables read each other in a circle: {', '.join(waiting)}")
        ordered += ready
        for table in ready:
            del waiting[table.full_name]
    return ordered


def _read_schema(path: Path) -> tuple[Column, ...]:
    entries = _read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise TableError(f"{path}: is not a list of columns")
    columns = []
    for number, entry in enumerate(entries, start=1):
        place = f"{path}: column {number}"
        if not isinstance(entry, dict) or set(entry) != {"name", "type", "mode", "description"}:
            raise TableError(f"{place} is {entry!r}; give exactly name, type, mode and description")
        place += f" ({entry['name']})"
        if not isinstance(entry["name"], str) or not _IDENTIFIER.fullmatch(entry["name"]):
            raise TableError(f"{place}: the name is not lower case letters, digits and underscores")
        for key, allowed in (("type", TYPES), ("mode", MODES)):
            if entry[key] not in allowed:
                raise TableError(f"{place}: {key} is {entry[key]!r}; give one of {', '.join(allowed)}")
        if not isinstance(entry["description"], str) or not entry["description"].strip():
            raise TableError(f"{place}: the description is empty; say what the column holds")
        columns.append(Column(**entry))
    names = [column.name for column in columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"{path}: repeats {', '.join(repeated)}")
    return tuple(columns)


def _read_metadata(path: Path, schema: tuple[Column, ...], *, is_view: bool) -> Metadata:
    entry = _read_yaml(path)
    expected: dict[str, type] = {
        "owner": str,
        "description": str,
        "grain": list,
        "labels": dict,
        "reads": list,
        "lookback_days": int,
        "maximum_bytes_billed": int,
    }
    if not is_view:
        expected |= {"partition_by": str, "cluster_by": list}
    if not isinstance(entry, dict):
        raise TableError(f"{path}: is not a mapping of keys to values")
    if missing := sorted(expected.keys() - entry.keys()):
        raise TableError(f"{path}: lacks {', '.join(missing)}")
    if unknown := sorted(entry.keys() - expected.keys()):
        raise TableError(f"{path}: has unknown {', '.join(unknown)}; known are {', '.join(sorted(expected))}")
    for key, kind in expected.items():
        if not isinstance(entry[key], kind) or (kind is str and not entry[key].strip()):
            raise TableError(f"{path}: {key} is {entry[key]!r}; give a {kind.__name__}")
    types = {column.name: column.type for column in schema}
    for key in ("grain", "cluster_by"):
        if unknown := [name for name in entry.get(key, []) if name not in types]:
            raise TableError(
                f"{path}: {key} names {', '.join(map(repr, unknown))}, which schema.yaml does not have"
            )
    partition_by = entry.get("partition_by")
    if partition_by and types.get(partition_by) != "DATE":
        raise TableError(f"{path}: partition_by is {partition_by!r}, which is no DATE column of schema.yaml")
    if len(entry.get("cluster_by", [])) > 4:
        raise TableError(
            f"{path}: cluster_by has {len(entry['cluster_by'])} columns; BigQuery takes at most 4"
        )
    if entry["maximum_bytes_billed"] <= 0 or entry["lookback_days"] < 0:
        raise TableError(f"{path}: maximum_bytes_billed must be above 0 and lookback_days 0 or more")
    return Metadata(
        owner=entry["owner"],
        description=entry["description"],
        grain=tuple(entry["grain"]),
        partition_by=partition_by,
        cluster_by=tuple(entry.get("cluster_by", [])),
        labels=entry["labels"],
        reads=tuple(entry["reads"]),
        lookback_days=entry["lookback_days"],
        maximum_bytes_billed=entry["maximum_bytes_billed"],
    )


def _read_checks(path: Path) -> tuple[Check, ...]:
    text = _read_sql(path)
    if text is None:
        return ()
    headers = list(_CHECK_HEADER.finditer(text))
    if not headers or text[: headers[0].start()].strip():
        raise TableError(f"{path}: must start with a header such as `-- check: unique_grain, level: fail`")
    ends = [header.start() for header in headers[1:]] + [len(text)]
    checks: list[Check] = []
    for header, end in zip(headers, ends, strict=True):
        name, level = header["name"], header["level"]
        sql = text[header.end() : end].strip().removesuffix(";")
        if not _IDENTIFIER.fullmatch(name) or level not in LEVELS:
            raise TableError(f"{path}: {header[0]!r} is no header; its level is one of {', '.join(LEVELS)}")
        if name in [check.name for check in checks]:
            raise TableError(f"{path}: two checks are named {name}")
        code = re.sub(r"--[^\n]*", "", sql).strip()
        if not code.startswith(("SELECT", "WITH")) or ";" in code:
            raise TableError(f"{path}: check {name} must be one SELECT; it is {code!r}")
        checks.append(Check(name, level, sql))
    return tuple(checks)


def _read_sql(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip().removesuffix(";") if path.is_file() else None


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise TableError(f"{path}: is missing; every table's folder has it")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise TableError(f"{path}: is not YAML: {error}") from error
