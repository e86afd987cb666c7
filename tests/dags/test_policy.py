"""What every DAG must be, asked of the whole folder, and a DAG that breaks each rule to prove it can fail."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import ParamValidationError

from local.root import ROOT
from shopstream.assets import EVENTS_PUBLISHED, SUMMARIES_BUILT
from shopstream.layout import ACCEPTED, EXPORTS, LANDING, REJECTED, REPORTS
from shopstream.settings import settings
from shopstream.tables.folder import all_tables, built_in_order, summaries_in_order
from shopstream.tables.names import EVENTS_BATCH, EVENTS_STREAM, REJECTED_EVENTS_STREAM
from shopstream.tags import Tag
from tests.airflow_home import named_in
from tests.dags.shop import line

DAGS = ROOT / "dags"
DAG_IDS = {
    "apply_schemas",
    "backfill_days",
    "build_summaries",
    "build_summaries_intraday",
    "compare_stream_with_batch",
    "forget_customer",
    "keep_stream_alive",
    "land_export",
    "load_events_daily",
    "replay_rejected_events",
    "simulate_stream",
    "stop_stream",
    "tell_digest",
    "watch_days",
    "watch_figures",
}
MAX_ACTIVE_RUNS = {"load_events_daily": 100}
"""Days that wait for their files; how many load at once is a setting."""
TIMEOUT_REASONS = {
    "simulate_stream": "a retry begins from the start, which late in a run is worth nothing",
}
"""DAGs whose runs may end before all retries of their tasks."""
DAILY = {"build_summaries", "compare_stream_with_batch", "load_events_daily", "watch_figures"}
DOC_SECTIONS = ("### Purpose", "### How to rerun", "### When it fails")
HOSTILE: list[Any] = [
    "exports/2019-Nov.csv\n",
    "exports/../2019-Nov.csv",
    "exports/\x00.csv",
    "exports/*.csv",
    f"exports/{'x' * 2_000}.csv",
    "2019-11-01\n",
    "2019-11-01' OR '1' = '1",
    "2019-11-01; DROP TABLE events",
    "{{ var.value.get('secret') }}",
    "`id`",
    "x" * 10_000,
    float("inf"),
    -1,
    10**30,
    ["2019-11-01"],
    {"day": "2019-11-01"},
]
"""What no form may hand to a task: each of these would be wrong in a name, a path, a statement or a count."""
MAX_LINES = 100
MAX_PARSE_CPU_SECONDS = 2.5
"""What Google's own check of a Composer repository allows; in CPU time, which does not hang on neighbours."""
SLOW_IMPORTS = ("airflow.providers.google", "apache_beam", "google", "googleapiclient", "pandas", "pyarrow")
"""What tasks import as they run: the files of all DAGs are parsed time and again, and a task's file by each
task."""


def load(folder: Path) -> Any:
    """Parse a folder of DAG files as Airflow does."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(folder))


@pytest.fixture(scope="module")
def bag(airflow_home: Path) -> Any:
    return load(DAGS)


def longest_run(dag: Any) -> timedelta:
    """How long the tasks of a run may take one after the other, with all retries and pauses before them."""
    ends: dict[str, timedelta] = {}
    for task in dag.topological_sort():
        once = task.execution_timeout or timedelta()
        tries = (task.retries + 1) * once
        if timeout := getattr(task, "timeout", None):
            # A sensor's own timeout counts from its first look and is not retried.
            tries = timedelta(seconds=timeout) + once
        # Airflow waits for up to twice the delay, which doubles with each retry.
        delays = [2 * task.retry_delay * 2**number for number in range(task.retries)]
        pauses = sum((min(delay, task.max_retry_delay or delay) for delay in delays), timedelta())
        start = max((ends[name] for name in task.upstream_task_ids), default=timedelta())
        ends[task.task_id] = start + tries + pauses
    return max(ends.values())


def problems_of(dag: Any) -> Iterator[str]:
    """Say in words each rule that a DAG breaks."""
    stem = Path(dag.fileloc).stem
    if dag.dag_id != stem:
        yield f"dag_id is {dag.dag_id}, its file {stem}.py"
    if not dag.tags or not set(dag.tags) <= set(Tag):
        yield f"tags are {sorted(dag.tags)}, not members of Tag"
    missing = [section for section in DOC_SECTIONS if section not in (dag.doc_md or "")]
    if missing:
        yield f"doc_md lacks {', '.join(missing)}"
    if not dag.description:
        yield "has no description"
    if not dag.start_date or dag.start_date > datetime(2026, 1, 1, tzinfo=UTC):
        yield f"start_date is {dag.start_date}, which is not static"
    if dag.catchup:
        yield "catches up"
    if not 1 <= dag.max_active_runs <= MAX_ACTIVE_RUNS.get(dag.dag_id, 3):
        yield f"max_active_runs is {dag.max_active_runs}"
    if not dag.dagrun_timeout:
        yield "has no dagrun_timeout"
    elif dag.dag_id not in TIMEOUT_REASONS and dag.dagrun_timeout < (longest := longest_run(dag)):
        yield f"dagrun_timeout is {dag.dagrun_timeout}, but its tasks may take {longest} with their retries"
    if not dag.on_failure_callback:
        yield "alerts nobody when a run fails, as when it times out"
    if dag.dag_id in DAILY and not dag.deadline:
        yield "is daily and has no deadline"
    for name in dag.params:
        param = dag.params.get_param(name)
        if not {"type", "title"} <= param.schema.keys() or not param.description:
            yield f"param {name} lacks a type, a title or a description"
        if "`" in (param.description or ""):
            yield f"param {name} has Markdown in its description, which forms show as it stands"
        if "pattern" in param.schema and not param.schema.get("expected"):
            # Airflow tells it with the schema, the pattern among it, to who has typed in something else.
            yield f"param {name} has a pattern, and does not say in words what is expected"
        yield from problems_of_example(name, param)
        for value in HOSTILE:
            with suppress(ParamValidationError):
                yield f"param {name} takes {param.resolve(value)!r:.40}"
    for task in dag.tasks:
        if task.owner in ("", "airflow"):
            yield f"{task.task_id} has no owner"
        if task.retries < 1 or not task.retry_exponential_backoff or not task.max_retry_delay:
            yield f"{task.task_id} is not retried with a bounded exponential backoff"
        if not task.retry_policy:
            yield f"{task.task_id} is retried where that cannot help"
        if not task.execution_timeout:
            yield f"{task.task_id} has no execution_timeout"
        if not task.on_failure_callback:
            yield f"{task.task_id} alerts nobody when it fails"
        if getattr(task, "mode", "reschedule") != "reschedule":
            yield f"{task.task_id} holds a worker slot while it waits"


def problems_of_example(name: str, param: Any) -> Iterator[str]:
    """A form shows what may be chosen; of what is typed in, its page must show an example that is right."""
    kind = param.schema.get("type", "")
    if "enum" in param.schema or kind == "boolean":
        return
    found = re.search(r"[Ss]uch as (\S+?)[.,:;]?(?=\s|$)", param.description or "")
    if not found:
        yield f"param {name} has no example: a value after the words 'such as'"
        return
    is_text = "string" in kind
    try:
        param.resolve(found[1] if is_text else json.loads(found[1]))
    except (ParamValidationError, json.JSONDecodeError):
        yield f"param {name} does not take its example {found[1]!r}"


def test_the_folder_holds_exactly_these_dags(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == DAG_IDS


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_a_dag_breaks_no_rule(bag: Any, dag_id: str) -> None:
    assert list(problems_of(bag.dags[dag_id])) == []


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_a_dag_file_is_thin_and_imports_only_airflow_and_shopstream(dag_id: str) -> None:
    source = (DAGS / f"{dag_id}.py").read_text()
    assert len(source.splitlines()) <= MAX_LINES
    assert imports_of(source) <= {"__future__", "airflow", "datetime", "shopstream", "typing"}


def imports_of(source: str) -> set[str]:
    """The top-level packages that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


PARSE = """
import json, os, runpy, socket, sys, time, traceback
import airflow.sdk

def refuse(*arguments):
    raise OSError("a DAG file may not use the network while it is parsed")

socket.socket.connect = socket.getaddrinfo = refuse
known = set(sys.modules)
for path in sys.argv[1:]:
    sys.stdout.flush()
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        runpy.run_path(path)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        told = took | {"imported": sorted(set(sys.modules) - known)}
    except Exception:
        told = {"error": traceback.format_exc()}
    print(json.dumps({path: told}), flush=True)
    # To end an interpreter with all of Airflow in it takes five times as long as to parse a file.
    os._exit(0)
"""


def parse_files(*dag_files: Path) -> dict[Path, dict[str, Any]]:
    """Parse each file in a process of its own without network, forked when Airflow itself is imported.

    Returns:
        Of each file {"wall": seconds, "cpu": seconds, "imported": names of modules beyond Airflow's}, or
        {"error": the traceback}.
    """
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE, *map(str, dag_files)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "plugins"))),
        },
        capture_output=True,
        text=True,
    )
    assert parsed.returncode == 0, parsed.stderr
    lines = [line for line in parsed.stdout.splitlines() if line.startswith("{")]
    found = {Path(path): told for line in lines for path, told in json.loads(line).items()}
    assert set(found) == set(dag_files), parsed.stderr
    return found


BROKEN = {
    "network": "import socket; socket.create_connection(('127.0.0.1', 9))",
    **{name: f"import {name}" for name in ("apache_beam", "google.cloud.storage", "pandas", "pyarrow")},
}
"""What no DAG file may do while it is parsed."""


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, broken <name>.py, of each of BROKEN."""
    folder = tmp_path_factory.mktemp("broken")
    for name, source in BROKEN.items():
        (folder / f"broken {name}.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def parsed_files(airflow_home: Path, broken_folder: Path) -> dict[Path, dict[str, Any]]:
    """What `parse_files` tells of all DAG files, and of the broken ones."""
    return parse_files(*(DAGS / f"{dag_id}.py" for dag_id in DAG_IDS), *broken_folder.iterdir())


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_a_dag_file_parses_soon_and_without_network(
    parsed_files: dict[Path, dict[str, Any]], dag_id: str, record_property: Callable[[str, object], None]
) -> None:
    seconds = parsed_files[DAGS / f"{dag_id}.py"]
    assert "error" not in seconds, seconds["error"]
    record_property("parse_seconds", {name: seconds[name] for name in ("wall", "cpu")})
    print(f"{dag_id}: {seconds['wall']:.2f} s wall, {seconds['cpu']:.2f} s CPU")
    assert seconds["cpu"] < MAX_PARSE_CPU_SECONDS


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_a_dag_file_imports_no_beam_pandas_pyarrow_or_google_client_while_it_is_parsed(
    parsed_files: dict[Path, dict[str, Any]], dag_id: str
) -> None:
    assert slow_imports(parsed_files[DAGS / f"{dag_id}.py"]) == []


def slow_imports(told: dict[str, Any]) -> list[str]:
    """The modules among those that a file imports which none should."""
    slow = tuple(f"{name}." for name in SLOW_IMPORTS)
    return [module for module in told["imported"] if f"{module}.".startswith(slow)]


GOOD = """
    from datetime import UTC, datetime, timedelta
    from airflow.sdk import Param, dag, task
    from shopstream.defaults import START_DATE, TASK_DEFAULTS
    from shopstream.tags import Tag

    @dag(
        dag_id="build_summaries",
        description="A DAG that keeps the rules",
        doc_md="### Purpose\\n### How to rerun\\n### When it fails",
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=3),
        deadline=__import__("shopstream.alerts").alerts.due_after_the_usual("soon", timedelta(hours=1)),
        default_args=TASK_DEFAULTS,
        on_failure_callback=print,
        params={
            "day": Param(
                None, type=["null", "string"], format="date", title="Day", description="Such as 2019-11-01"
            ),
        },
        tags=[Tag.BATCH],
    )
    def build():
        @task
        def work():
            pass

        work()

    build()
"""


def parsed(tmp_path: Path, source: str) -> Any:
    file = tmp_path / "build_summaries.py"
    file.write_text(textwrap.dedent(source))
    return load(tmp_path)


def test_the_rules_let_a_good_dag_pass(airflow_home: Path, tmp_path: Path) -> None:
    bag = parsed(tmp_path, GOOD)
    assert bag.import_errors == {}
    assert list(problems_of(bag.dags["build_summaries"])) == []


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ('dag_id="build_summaries"', 'dag_id="other"', "dag_id is other, its file build_summaries.py"),
        ("[Tag.BATCH]", '["nightly"]', "tags are ['nightly'], not members of Tag"),
        ("[Tag.BATCH]", "[]", "tags are [], not members of Tag"),
        ("### How to rerun", "", "doc_md lacks ### How to rerun"),
        ("### When it fails", "", "doc_md lacks ### When it fails"),
        ('description="A DAG that keeps the rules",', "", "has no description"),
        ("start_date=START_DATE", "start_date=datetime.now(UTC)", "which is not static"),
        ("catchup=False", "catchup=True", "catches up"),
        ("max_active_runs=1", "max_active_runs=16", "max_active_runs is 16"),
        ("dagrun_timeout=timedelta(hours=3),", "", "has no dagrun_timeout"),
        ("timedelta(hours=3)", "timedelta(hours=2)", "but its tasks may take 2:04:40 with their retries"),
        ("on_failure_callback=print,", "", "alerts nobody when a run fails"),
        (re.search(r"deadline=.*", GOOD)[0], "", "is daily and has no deadline"),  # type: ignore[index]
        ('title="Day", ', "", "param day lacks a type, a title or a description"),
        ("Such as 2019-11-01", "A day", "param day has no example"),
        ("Such as 2019-11-01", "Such as Friday", "param day does not take its example 'Friday'"),
        ('format="date"', "pattern=r'^2019-11-01\\Z'", "does not say in words what is expected"),
        ("Such as 2019-11-01", "Such as 2019-11-01 of `days`", "param day has Markdown in its description"),
        (
            'format="date"',
            "expected='a day', pattern=r'^2019-11-01\\Z|^[a-zA-Z0-9/-]{1,80}[.]csv$'",
            r"param day takes 'exports/2019-Nov.csv\n'",
        ),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'owner': 'airflow'},", "work has no owner"),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'retries': 0},", "work is not retried"),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'retry_exponential_backoff': 0},", "work is not retried"),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'retry_policy': None},", "retried where that cannot help"),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'execution_timeout': None},", "work has no execution_timeout"),
        ("TASK_DEFAULTS,", "TASK_DEFAULTS | {'on_failure_callback': None},", "work alerts nobody"),
    ],
)
def test_a_broken_dag_fails_its_rule(
    airflow_home: Path, tmp_path: Path, good: str, bad: str, words: str
) -> None:
    assert good in GOOD
    [dag] = parsed(tmp_path, GOOD.replace(good, bad)).dags.values()
    [problem] = problems_of(dag)
    assert words in problem


def test_a_wrong_tag_fails_on_import(airflow_home: Path, tmp_path: Path) -> None:
    [error] = parsed(tmp_path, GOOD.replace("Tag.BATCH", "Tag.NIGHTLY")).import_errors.values()
    assert "NIGHTLY" in error


@pytest.mark.parametrize("dag_id", ["build_summaries", "build_summaries_intraday"])
def test_a_broken_folder_of_sql_is_named_by_the_error_of_the_dags_that_build_it(
    airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dag_id: str
) -> None:
    shutil.copytree(settings().sql_dir, tmp_path / "sql")
    broken = tmp_path / "sql" / "bigquery" / "shop" / "daily_event_count" / "metadata.yaml"
    broken.write_text("reads: [shop.evnets]\n")
    monkeypatch.setenv("SHOPSTREAM_SQL_DIR", str(tmp_path / "sql"))
    [error] = load(DAGS / f"{dag_id}.py").import_errors.values()
    assert "shop.daily_event_count: reads shop.evnets, which has no folder" in error


def test_an_empty_folder_is_not_the_expected_set(airflow_home: Path, tmp_path: Path) -> None:
    assert set(load(tmp_path).dags) != DAG_IDS


def test_a_file_that_uses_the_network_while_it_is_parsed_is_found(
    parsed_files: dict[Path, dict[str, Any]], broken_folder: Path
) -> None:
    told = parsed_files[broken_folder / "broken network.py"]
    assert "may not use the network while it is parsed" in told["error"]


@pytest.mark.parametrize("module", [name for name in BROKEN if name != "network"])
def test_a_file_that_imports_a_slow_module_while_it_is_parsed_is_found(
    parsed_files: dict[Path, dict[str, Any]], broken_folder: Path, module: str
) -> None:
    assert module in slow_imports(parsed_files[broken_folder / f"broken {module}.py"])


def test_deadlines_call_back_on_the_executor(bag: Any) -> None:
    """The triggerer, where asynchronous callbacks run, has no plugins on Composer."""
    from airflow.sdk import SyncCallback

    for dag_id in DAILY:
        [deadline] = bag.dags[dag_id].deadline
        assert isinstance(deadline.callback, SyncCallback)
        assert deadline.callback.path == "shopstream.alerts.deadline_missed"
        assert deadline.interval > timedelta(minutes=30)
        # Clearing a run whose deadline counts from when it was queued answers 500 (apache/airflow #70368).
        assert type(deadline.reference).__name__ != "DagRunQueuedAtDeadline"


BUILT = built_in_order(settings().sql_dir)
BUILDING = ("build_summaries", "build_summaries_intraday")
STREAMED = {EVENTS_STREAM, REJECTED_EVENTS_STREAM}
"""Tables that no task writes, but the stream's job."""


def of_lineage(named: list[Any]) -> set[str]:
    """The tables, as dataset.table, and folders of the bucket that inlets or outlets name to OpenLineage."""
    from airflow.providers.openlineage.extractors.manager import ExtractorManager

    found = set()
    for one in named:
        if isinstance(one, Asset):
            continue
        dataset = ExtractorManager.convert_to_ol_dataset(one)
        assert dataset is not None, f"OpenLineage knows nothing of {one!r}"
        if dataset.namespace == "bigquery":
            project, _, name = dataset.name.partition(".")
            assert project == settings().project
            found.add(name)
        else:
            assert dataset.namespace == f"gs://{settings().bucket}"
            found.add(dataset.name)
    return found


def test_every_table_is_an_outlet_of_the_tasks_that_write_it_and_what_it_is_made_from_their_inlets(
    bag: Any,
) -> None:
    tables = {table.full_name: table for table in all_tables(settings().sql_dir)}
    written: dict[str, set[str]] = {}
    for dag in bag.dags.values():
        for task in dag.tasks:
            outlets, inlets = of_lineage(task.outlets), of_lineage(task.inlets)
            for name in outlets & tables.keys():
                written.setdefault(name, set()).add(f"{dag.dag_id}.{task.task_id}")
                assert set(tables[name].metadata.reads) <= inlets, f"{dag.dag_id}.{task.task_id}: {name}"
            assert inlets <= tables.keys() | {EXPORTS, LANDING, ACCEPTED, REJECTED}
            assert outlets <= tables.keys() | {LANDING, ACCEPTED, REJECTED, REPORTS}
    assert written.keys() == {name for name, table in tables.items() if not table.view} - STREAMED
    built = {name: {f"{dag_id}.summaries.{name.partition('.')[2]}" for dag_id in BUILDING} for name in BUILT}
    assert written == {
        **built,
        "shop_ops.check_results": set().union(*built.values()),
        "shop_ops.figure_findings": {"watch_figures.judge_figures"},
        "shop_ops.forgotten_customers": {"forget_customer.write_audit_rows"},
        "shop_ops.loads": {"load_events_daily.write_audit_row"},
        "shop_ops.objectives": {"tell_digest.digest"},
        "shop_ops.replays": {"replay_rejected_events.replay"},
        "shop_ops.stream_checks": {"keep_stream_alive.keep_alive"},
        "shop_ops.stream_completeness": {"compare_stream_with_batch.compare"},
        "shop_raw.events_batch": {"load_events_daily.publish"},
        "shop_raw.rejected_events_batch": {"load_events_daily.gate"},
    }


def test_lineage_leads_from_the_export_to_the_report(bag: Any) -> None:
    feeds = {
        (read, wrote)
        for dag in bag.dags.values()
        for task in dag.tasks
        for read in of_lineage(task.inlets)
        for wrote in of_lineage(task.outlets)
    }
    assert set(pairwise([EXPORTS, LANDING, ACCEPTED, EVENTS_BATCH])) <= feeds
    assert set(pairwise([LANDING, REJECTED, "shop_raw.rejected_events_batch"])) <= feeds
    assert {(name, REPORTS) for name in summaries_in_order(settings().sql_dir)} <= feeds


def test_what_is_named_for_lineage_alone_is_no_asset_and_so_starts_no_dag(bag: Any) -> None:
    outlets = [one for dag in bag.dags.values() for task in dag.tasks for one in task.outlets]
    assets = {one.uri for one in outlets if isinstance(one, Asset)}
    assert assets == {EVENTS_PUBLISHED.uri, SUMMARIES_BUILT.uri}


def depth(name: str) -> int:
    """How many tables must be built one after the other before this one."""
    return max((1 + depth(read) for read in BUILT[name]), default=0)


SUMMARY_TASKS = " > ".join(
    ", ".join(sorted(f"summaries.{name.partition('.')[2]}" for name in BUILT if depth(name) == level))
    for level in range(1 + max(map(depth, BUILT)))
)


@pytest.mark.parametrize(
    ("dag_id", "order"),
    [
        ("apply_schemas", "apply_bigquery_tables > migrate_spanner"),
        ("backfill_days", "plan > is_real > run_days > tell_outcome"),
        ("keep_stream_alive", "keep_alive"),
        ("land_export", "split_into_days"),
        (
            "load_events_daily",
            "wait_for_landing > launch_load > wait_for_load > gate > reconcile > publish > write_audit_row",
        ),
        ("compare_stream_with_batch", "resolve_days > compare"),
        ("replay_rejected_events", "replay > load_days"),
        ("simulate_stream", "publish_events"),
        ("stop_stream", "request_stop > wait_for_end"),
        ("watch_days", "name_missing_days"),
        (
            "build_summaries",
            f"resolve_days > dry_or_real > dry_run, {SUMMARY_TASKS} > tell_built, write_report",
        ),
        ("tell_digest", "digest"),
        ("watch_figures", "resolve_days > judge_figures"),
        ("build_summaries_intraday", f"resolve_days > {SUMMARY_TASKS}"),
    ],
)
def test_the_tasks_run_in_this_order(bag: Any, dag_id: str, order: str) -> None:
    assert " > ".join(", ".join(sorted(step)) for step in steps(bag.dags[dag_id])) == order


def steps(dag: Any) -> list[list[str]]:
    """The task ids in the order of their running; those that may run side by side are one step."""
    levels: dict[str, int] = {}
    for task in dag.topological_sort():
        levels[task.task_id] = 1 + max((levels[name] for name in task.upstream_task_ids), default=-1)
    return [[name for name in levels if levels[name] == level] for level in range(max(levels.values()) + 1)]


def test_a_customer_who_is_named_by_a_run_of_these_tests_is_found() -> None:
    number, session = line(7).rstrip("\n").split(",")[-2:]
    named = [f"user_id = {number}, price = 1.", json.dumps({"found": {session: 2}})]
    assert named_in([*named, "rows: 500,000,007; load 20191108-t500000007; event 5e5510"]) == [
        number,
        session,
    ]
