"""What sql/bigquery says: a table is a folder <dataset>/<table>/.

schema.yaml    the columns: name, type, mode, description
metadata.yaml  owner, description, grain, partitioning, clustering, labels, what it reads; and, if there are
               any, the parameters of its query beside @day, and its headline
query.sql      one SELECT of one day's rows, which takes the day as @day: a summary, if its dataset is shop;
               what summaries read, if it is shop_raw
view.sql       a view: one SELECT
checks.sql     named checks of a summary's day, each one SELECT that returns what is wrong; no rows = passed

A folder with neither query.sql nor view.sql is a table that others write. Files are read when a function is
called, never on import, and checked while they are read, so that a slip is told with its file.
"""

# Only checked identifiers and our own files become part of a statement; the day is a parameter.

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shopstream.retries import Refused

SUMMARIES_DATASET = "shop"
BUILT_DATASETS = ("shop_raw", SUMMARIES_DATASET)
"""Those whose tables with a query are built together, day by day."""
UNIQUE_GRAIN = "unique_grain"
"""The check that no two rows of a built day have the same grain: made from metadata.yaml."""

TYPES = ("BOOL", "BYTES", "DATE", "FLOAT64", "INT64", "JSON", "NUMERIC", "STRING", "TIMESTAMP")
MODES = ("REQUIRED", "NULLABLE", "REPEATED")
SEVERITIES = ("fail", "warn")

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_CHECK_HEADER = re.compile(
    r"^-- check: *(?P<name>[^,\n]*?), *severity: *(?P<severity>[^\n]*?) *$", re.MULTILINE
)
_COMMENT_OR_TEXT = re.compile(r"--[^\n]*|'[^']*'")
# The loader in C takes a tenth of the time, where it is there.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS: Mapping[str, type] = {
    "owner": str,
    "description": str,
    "grain": list,
    "labels": dict,
    "reads": list,
    "lookback_days": int,
}
_KEYS_UNLESS_VIEW: Mapping[str, type] = {"partition_by": str, "cluster_by": list}
_OPTIONAL_KEYS: Mapping[str, type] = {
    "lookahead_days": int,
    "fills_days": int,
    "parameters": dict,
    "headline": dict,
}
_HEADLINE_KEYS: Mapping[str, type] = {"by": str, "where": dict, "most": str, "first": int, "latest_day": bool}


class TableError(Refused):
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
    """One named check: `sql` returns the offending rows of @day; `severity` is one of SEVERITIES."""

    name: str
    severity: str
    sql: str

    @property
    def meaning(self) -> str:
        """What it means in words if rows are found: the comment below the check's header, "" without one."""
        comment = itertools.takewhile(lambda line: line.startswith("--"), self.sql.splitlines())
        return " ".join(line.removeprefix("--").strip() for line in comment)


@dataclass(frozen=True, slots=True)
class Headline:
    """The figures of a summary that a reader looks for first, as a sentence about its rows of some days.

    `text` is a format string such as "{events:,} {event_type}s". Its fields are `by`, columns that are added
    up, `rows` (how many they are), `share` (what `where` leaves of the sum of `most`), and `currency`, which
    goes before a sum of money without a space. It is said of the rows that have the values of `where`, and
    only of the last day's if `latest_day`; if `by` is a column, once for each of its values: by falling sums
    of `most`, or as the rows come, and only of the `first` ones if that is not 0.
    """

    text: str
    by: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    most: str = ""
    first: int = 0
    latest_day: bool = False

    @property
    def fields(self) -> set[str]:
        """The names in braces of the text."""
        return {name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None}

    @property
    def summed(self) -> set[str]:
        """The columns that are added up."""
        return (self.fields | {self.most}) - {self.by, "rows", "share", "currency", ""}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What metadata.yaml says of a table.

    `grain` names the columns that identify a row, and is empty where rows may repeat. `reads` names the
    tables of the query, or those from which a task makes the rows, as dataset.table. `lookback_days` is how
    many days before its own day a build reads or writes, `lookahead_days` how many after it; days that a
    summary which it reads was made from count too.
    `fills_days` is how far before and after the days of a build those known days are built too of which the
    table lacks events: as far as who reads it looks.
    `partition_by` is the DATE column of the daily partitions; a view has none.
    `parameters` are the types, by name, of what the query takes beside @day.
    """

    owner: str
    description: str
    grain: tuple[str, ...]
    labels: Mapping[str, str]
    reads: tuple[str, ...]
    lookback_days: int
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()
    lookahead_days: int = 0
    fills_days: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    headline: Headline | None = None


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
    if query:
        _refuse_other_parameters(folder / "query.sql", query, metadata.parameters)
    checks = _read_checks(folder / "checks.sql")
    if query and dataset in BUILT_DATASETS and metadata.grain:
        checks = (_unique_grain(full_name, metadata), *checks)
    return Table(dataset, name, schema, metadata, query, view, checks)


def all_tables(sql_dir: Path) -> list[Table]:
    """Read every folder, ordered so that a table comes after all that it reads; else by name.

    Raises:
        TableError: a folder is not as it must be, or reads a table without folder, or itself in a circle.
    """
    tables = {full_name: load_table(sql_dir, full_name) for full_name in _folders(sql_dir)}
    reads = {full_name: table.metadata.reads for full_name, table in tables.items()}
    return [tables[full_name] for full_name in _in_order(reads)]


def built_in_order(sql_dir: Path) -> dict[str, list[str]]:
    """Return what is built day by day, the summaries and the tables made for them, in dependency order.

    Each with those others that it reads, itself or by views. It is cheap, so that a DAG file can call it: of
    a folder only metadata.yaml is read.

    Raises:
        TableError: a folder's metadata.yaml does not say what it reads, or what it reads has no folder, or
            tables read each other in a circle.
    """
    folders = _folders(sql_dir)
    reads = {
        full_name: _reads(folder / "metadata.yaml", _read_yaml(folder / "metadata.yaml"))
        for full_name, folder in folders.items()
    }
    ordered = _in_order(reads)
    names = [
        full_name
        for full_name in ordered
        if full_name.startswith(tuple(f"{dataset}." for dataset in BUILT_DATASETS))
        and (folders[full_name] / "query.sql").is_file()
    ]
    below: dict[str, set[str]] = {}  # what is built that a table reads
    for full_name in ordered:
        below[full_name] = set().union(
            *({read} if read in names else below[read] for read in reads[full_name])
        )
    return {full_name: sorted(below[full_name]) for full_name in names}


def reads_of(sql_dir: Path, full_name: str) -> tuple[str, ...]:
    """Return what a table is made from; of its folder only metadata.yaml is read.

    Raises:
        TableError: there is no such folder, or its metadata.yaml does not say what it reads.
    """
    dataset, _, name = full_name.partition(".")
    path = Path(sql_dir) / "bigquery" / dataset / name / "metadata.yaml"
    return _reads(path, _read_yaml(path))


def summaries_in_order(sql_dir: Path) -> list[str]:
    """Return the summaries in dependency order; as cheap, and with the same errors, as built_in_order."""
    return [name for name in built_in_order(sql_dir) if name.startswith(f"{SUMMARIES_DATASET}.")]


def _folders(sql_dir: Path) -> dict[str, Path]:
    """Return each table's folder, by the table's name, in order."""
    root = Path(sql_dir) / "bigquery"
    folders = sorted(path for path in root.glob("*/*") if path.is_dir())
    if not folders:
        raise TableError(f"{root} has no folders of tables; name the folder above it by SHOPSTREAM_SQL_DIR")
    return {f"{folder.parent.name}.{folder.name}": folder for folder in folders}


def _in_order(reads: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tables, each after all that it reads; `reads` says of each what that is."""
    for full_name, names in reads.items():
        if unknown := [name for name in names if name not in reads]:
            raise TableError(f"{full_name}: reads {', '.join(unknown)}, which has no folder in sql/bigquery")
    ordered: list[str] = []
    waiting = dict(reads)
    while waiting:
        ready = [full_name for full_name, names in waiting.items() if not set(names) & waiting.keys()]
        if not ready:
            raise TableError(f"these tables read each other in a circle: {', '.join(waiting)}")
        ordered += ready
        for full_name in ready:
            del waiting[full_name]
    return ordered


def _read_schema(path: Path) -> tuple[Column, ...]:
    entries = _read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise TableError(f"{path}: is not a list of columns")
    columns = []
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: column {number}"
        if not isinstance(entry, dict) or set(entry) != {"name", "type", "mode", "description"}:
            raise TableError(f"{where} is {entry!r}; give exactly name, type, mode and description")
        where += f" ({entry['name']})"
        if not isinstance(entry["name"], str) or not _IDENTIFIER.fullmatch(entry["name"]):
            raise TableError(f"{where}: the name is not lower case letters, digits and underscores")
        for key, allowed in (("type", TYPES), ("mode", MODES)):
            if entry[key] not in allowed:
                raise TableError(f"{where}: {key} is {entry[key]!r}; give one of {', '.join(allowed)}")
        if not isinstance(entry["description"], str) or not entry["description"].strip():
            raise TableError(f"{where}: the description is empty; say what the column holds")
        columns.append(Column(**entry))
    names = [column.name for column in columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"{path}: repeats {', '.join(repeated)}")
    return tuple(columns)


def _read_metadata(path: Path, schema: tuple[Column, ...], *, is_view: bool) -> Metadata:
    entry = _read_yaml(path)
    required = _KEYS if is_view else {**_KEYS, **_KEYS_UNLESS_VIEW}
    _refuse_other_keys(f"{path}", entry, required, _OPTIONAL_KEYS)
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
    if min(entry.get(name, 0) for name in ("lookback_days", "lookahead_days", "fills_days")) < 0:
        raise TableError(f"{path}: lookback_days, lookahead_days and fills_days must be 0 or more")
    checked = {
        "grain": tuple(entry["grain"]),
        "cluster_by": tuple(entry.get("cluster_by", [])),
        "reads": _reads(path, entry),
        "parameters": _parameters(path, entry),
        "headline": _headline(path, entry["headline"], types) if "headline" in entry else None,
    }
    return Metadata(**entry | checked)


def _refuse_other_keys(
    where: str, entry: Any, required: Mapping[str, type], optional: Mapping[str, type]
) -> None:
    """Refuse what is no mapping of the required and any of the optional keys, each to a value of its type."""
    if not isinstance(entry, dict):
        raise TableError(f"{where}: is not a mapping of keys to values")
    known = {**required, **optional}
    if missing := sorted(required.keys() - entry.keys()):
        raise TableError(f"{where}: lacks {', '.join(missing)}")
    if unknown := sorted(entry.keys() - known.keys()):
        raise TableError(f"{where}: has unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for key, value in entry.items():
        if not isinstance(value, known[key]) or (isinstance(value, str) and not value.strip()):
            raise TableError(f"{where}: {key} is {value!r}; give a {known[key].__name__}")


def _reads(path: Path, entry: Any) -> tuple[str, ...]:
    reads = entry.get("reads") if isinstance(entry, dict) else None
    if not isinstance(reads, list) or not all(isinstance(name, str) for name in reads):
        raise TableError(f"{path}: reads is {reads!r}; give a list of tables, each as <dataset>.<table>")
    return tuple(reads)


def _parameters(path: Path, entry: Mapping[str, Any]) -> dict[str, str]:
    parameters: dict[str, str] = entry.get("parameters", {})
    for name, type_name in parameters.items():
        if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name) or name == "day":
            raise TableError(
                f"{path}: parameters has {name!r}; give a name of lower case letters, digits and "
                "underscores, other than day, which every query takes"
            )
        if type_name not in TYPES:
            raise TableError(
                f"{path}: parameter {name} is of type {type_name!r}; give one of {', '.join(TYPES)}"
            )
    return parameters


def _headline(path: Path, entry: Mapping[str, Any], types: Mapping[str, str]) -> Headline:
    _refuse_other_keys(f"{path}: headline", entry, {"text": str}, _HEADLINE_KEYS)
    headline = Headline(**entry)
    try:
        fields = headline.fields
    except ValueError as error:
        raise TableError(f"{path}: headline: text is {headline.text!r}: {error}") from error
    for name in (headline.by, *headline.where):
        if name and name not in types:
            raise TableError(f"{path}: headline names {name!r}, which schema.yaml does not have")
    for name in sorted(headline.summed):
        if types.get(name) not in ("INT64", "NUMERIC"):
            raise TableError(
                f"{path}: headline adds {name!r} up, which is no column of schema.yaml of INT64 or NUMERIC"
            )
    if "share" in fields and not headline.most:
        raise TableError(f"{path}: headline tells a share; say by most of which column")
    return headline


def _refuse_other_parameters(path: Path, query: str, declared: Mapping[str, str]) -> None:
    """Refuse a query that does not take @day and exactly the declared parameters."""
    used = set(re.findall(r"@(\w+)", _COMMENT_OR_TEXT.sub("", query)))
    if "day" not in used:
        raise TableError(f"{path}: does not use @day; a summary is built one day at a time")
    if undeclared := sorted(used - {"day", *declared}):
        raise TableError(
            f"{path}: uses @{', @'.join(undeclared)}; declare it in metadata.yaml, such as "
            f"`parameters: {{{undeclared[0]}: FLOAT64}}`"
        )
    if unused := sorted(declared.keys() - used):
        raise TableError(f"{path}: does not use @{', @'.join(unused)}, which metadata.yaml declares")


def _unique_grain(full_name: str, metadata: Metadata) -> Check:
    """Return the check that finds rows of a day that have the same grain."""
    columns = [name for name in metadata.grain if name != metadata.partition_by] or list(metadata.grain)
    selected = "".join(f"    {name},\n" for name in columns)
    return Check(
        UNIQUE_GRAIN,
        "fail",
        f"SELECT\n{selected}    COUNT(*) AS found_rows\nFROM {full_name}\n"
        f"WHERE {metadata.partition_by} = @day\nGROUP BY {', '.join(columns)}\nHAVING COUNT(*) > 1",
    )


def _read_checks(path: Path) -> tuple[Check, ...]:
    text = _read_sql(path)
    if text is None:
        return ()
    headers = list(_CHECK_HEADER.finditer(text))
    if not headers or text[: headers[0].start()].strip():
        raise TableError(
            f"{path}: must start with a header such as `-- check: possible_values, severity: fail`"
        )
    ends = [header.start() for header in headers[1:]] + [len(text)]
    checks: list[Check] = []
    for header, end in zip(headers, ends, strict=True):
        name, severity = header["name"], header["severity"]
        sql = text[header.end() : end].strip().removesuffix(";")
        if not _IDENTIFIER.fullmatch(name) or severity not in SEVERITIES:
            raise TableError(
                f"{path}: {header[0]!r} is no header; its severity is one of {', '.join(SEVERITIES)}"
            )
        if name == UNIQUE_GRAIN:
            raise TableError(f"{path}: check {name} is made from metadata.yaml's grain; leave it out here")
        if name in [check.name for check in checks]:
            raise TableError(f"{path}: two checks are named {name}")
        code = re.sub(r"--[^\n]*", "", sql).strip()
        if not code.startswith(("SELECT", "WITH")) or ";" in code:
            raise TableError(f"{path}: check {name} must be one SELECT; it is {code!r}")
        checks.append(Check(name, severity, sql))
    return tuple(checks)


def _read_sql(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip().removesuffix(";") if path.is_file() else None


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise TableError(f"{path}: is missing; every table's folder has it")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)  # noqa: S506 (a safe one)
    except yaml.YAMLError as error:
        raise TableError(f"{path}: is not YAML: {error}") from error
