"""What the pages tell to do can be done: each command, DAG, file, link and query in them exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.deploy import ENVIRONMENTS, read_target
from local.drills.drills import DRILLS
from shopstream import settings as settings_module
from shopstream.tables.folder import all_tables
from tests.infra.gcloud import unknown_to_gcloud
from tools.googlesql.analyzer import Analyzer, StatementRefused, running_analyzer

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
INDEX = RUNBOOKS / "README.md"
SUBJECTS = sorted(path for path in RUNBOOKS.glob("*.md") if path != INDEX)
OTHERS = (
    "README.md",
    "docs/compose.md",
    "docs/deployment.md",
    "docs/design.md",
    "docs/getting-started.md",
    "docs/guarantees.md",
    "docs/how-to.md",
    "docs/scale.md",
)
PAGES = [INDEX, *SUBJECTS, *(ROOT / name for name in OTHERS)]
SECTIONS = ["How it shows", "How to confirm", "What to do", "How to know it is over"]

DAGS = {path.stem for path in (ROOT / "dags").glob("*.py")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SETTINGS = {
    name.format(level)
    for name in re.findall(r"SHOPSTREAM_[A-Z_{}]+", Path(settings_module.__file__).read_text())
    for level in ("WARN", "FAIL")
}
SQL_DIR = ROOT / "sql"
TABLES = {table.full_name: table for table in all_tables(SQL_DIR)}
ROOMS = (
    "beam_jobs",
    "bench",
    "dags",
    "docs",
    "infra",
    "local",
    "plugins",
    "sql",
    "tests",
    "tools",
    ".github",
)
MADE_LATER = {
    "infra/.terraform.lock.hcl",
    "plugins/shopstream/charts/vega.js",
    "plugins/beam_jobs",
    "plugins/sql",
}
"""Paths that are told, and that a command or a deployment makes."""
VERBS = ("airflow dags trigger", "airflow dags unpause", "airflow dags pause", "backfill create --dag-id")
ELSEWHERE = ("INFORMATION_SCHEMA", "gcp_billing_export")
"""In the names of BigQuery's own tables, whose columns the analyzer is not told."""


class Code(NamedTuple):
    """A fenced block of a page: its language, "" if none is named, and its text without the indentation."""

    language: str
    text: str


def blocks(text: str) -> list[Code]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [Code(lang, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)) for indent, lang, body in found]


def command_lines(text: str) -> list[str]:
    """The lines of a page that are typed into a shell, each whole."""
    shell = (code.text for code in blocks(text) if code.language in ("", "sh", "bash"))
    return [line.strip() for body in shell for line in body.replace("\\\n", " ").splitlines() if line.strip()]


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```\w*\n.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def quoted(text: str) -> list[str]:
    """What stands in backticks in the text of a page, and not in a block."""
    return [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", without_blocks(text))]


def wrong_targets(text: str) -> Iterator[str]:
    for command in [*quoted(text), *command_lines(text)]:
        if command.startswith("make "):
            for word in shlex.split(command.split("#")[0].rstrip(":"))[1:]:
                if "=" not in word and word not in TARGETS:
                    yield f"make has no target {word}: {command}"


def wrong_dags(text: str) -> Iterator[str]:
    for command in [*quoted(text), *command_lines(text)]:
        for verb in VERBS:
            if verb in command and (dag_id := command.partition(verb)[2].split()[0]) not in DAGS:
                yield f"there is no DAG {dag_id}: {command}"
    for named in re.findall(r"\b(?:[Tt]rigger|[Uu]npause|[Pp]ause|DAG)\s+`(\w+)`", without_blocks(text)):
        if named not in DAGS:
            yield f"there is no DAG {named}"
    for named in set(quoted(text)) - DAGS:
        if meant := get_close_matches(named, DAGS, n=1, cutoff=0.9):
            yield f"there is no DAG {named}; {meant[0]} is one"


def wrong_paths(text: str) -> Iterator[str]:
    for named in quoted(text):
        path = named.rstrip("/")
        room, slash, _ = named.partition("/")
        if (slash and room in ROOMS) or re.fullmatch(
            r"Makefile|Dockerfile|docker-compose\.yaml|requirements[\w.]*\.(txt|in)", named
        ):
            is_path = re.fullmatch(r"[\w.<>*/-]+", path)
            if is_path and path not in MADE_LATER and not any(ROOT.glob(re.sub(r"<\w+>", "*", path))):
                yield f"there is no {named}"


def wrong_links(text: str, page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{link} leads nowhere"
        elif anchor and anchor not in anchors(target.read_text()):
            yield f"{link}: the page has no such heading"


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def wrong_modules(text: str) -> Iterator[str]:
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        path = ROOT.joinpath(*module.split("."))
        is_ours = module.partition(".")[0] in ROOMS
        if is_ours and not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
            yield f"there is no module {module}"


def wrong_settings(text: str) -> Iterator[str]:
    for name in re.findall(r"SHOPSTREAM_[A-Z_]*[A-Z]", text):
        if name not in SETTINGS:
            yield f"settings.py reads no {name}"


def wrong_gcloud(text: str) -> Iterator[str]:
    for line in [*command_lines(text), *(one for one in quoted(text) if one.count(" ") > 2)]:
        if line.startswith("gcloud ") and (unknown := unknown_to_gcloud(shlex.split(line))):
            yield f"gcloud has no {', '.join(sorted(unknown))}: {line}"


def wrong_tables(text: str) -> Iterator[str]:
    for name in re.findall(r"\b(shop(?:_raw|_ops)?\.\w+)\b(?![./])", text):
        if name not in TABLES:
            yield f"there is no table {name}"


def mistakes(text: str, page: Path) -> list[str]:
    """What a page tells that is not there, but for its SQL."""
    return [
        *wrong_targets(text),
        *wrong_dags(text),
        *wrong_paths(text),
        *wrong_links(text, page),
        *wrong_modules(text),
        *wrong_tables(text),
    ]


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_each_target_dag_path_link_module_and_table_of_a_page_exists(page: Path) -> None:
    assert mistakes(page.read_text(), page) == []


@pytest.mark.parametrize("page", [INDEX, *SUBJECTS], ids=names)
def test_gcloud_has_each_command_of_a_runbook(page: Path) -> None:
    assert list(wrong_gcloud(page.read_text())) == []


@pytest.mark.parametrize("page", [INDEX, *SUBJECTS], ids=names)
def test_settings_reads_each_variable_of_a_runbook(page: Path) -> None:
    assert list(wrong_settings(page.read_text())) == []


@pytest.mark.parametrize("page", SUBJECTS, ids=names)
def test_a_runbook_tells_how_it_shows_how_to_confirm_what_to_do_and_how_to_know_it_is_over(
    page: Path,
) -> None:
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == SECTIONS


def test_the_runbooks_have_commands_and_queries_to_check() -> None:
    text = "".join(path.read_text() for path in SUBJECTS)
    assert len([line for line in command_lines(text) if line.startswith("gcloud ")]) > 20
    assert len([code for code in blocks(text) if code.language == "sql"]) > 15
    assert set(quoted(text)) >= DAGS


def test_the_index_leads_to_each_runbook() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text()))
    assert linked == {path.name for path in SUBJECTS}
    assert len(SUBJECTS) == 13


@pytest.mark.parametrize("page", SUBJECTS, ids=names)
def test_a_runbook_names_its_drills_or_says_why_it_has_none(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"^Drills: `make drill ARGS=\"?([\w -]+)\"?`", text, re.MULTILINE)
    drills = {name for line in named for name in line.split()}
    assert drills <= DRILLS.keys()
    assert bool(drills) != bool(re.search(r"^No drill: \w", text, re.MULTILINE))


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_is_named_by_the_runbook_that_it_follows(name: str) -> None:
    runbook = ROOT / str(DRILLS[name].__doc__)
    assert re.search(rf"^Drills: .*\b{name}\b", runbook.read_text(), re.MULTILINE)


def test_the_index_tells_of_each_alert_and_each_alert_of_its_runbook() -> None:
    text = (ROOT / "infra" / "alerts.tf").read_text()
    policies = re.findall(r'"google_monitoring_alert_policy" .*?\n}\n', text, re.DOTALL)
    assert len(policies) == 7
    for policy in policies:
        [name] = re.findall(r'^  display_name += "(.*)"$', policy, re.MULTILINE)
        assert f'"{name}"' in INDEX.read_text()
        [runbook] = re.findall(r"Runbook.*: (docs/runbooks/[\w-]+\.md)", policy)
        assert (ROOT / runbook).is_file()
        if runbook != names(INDEX):
            assert f'"{name}"' in (ROOT / runbook).read_text()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_costs_tell_the_sizes_of_each_environment(environment: str) -> None:
    rows = re.findall(r"^\| (.*) \|$", (RUNBOOKS / "costs.md").read_text(), re.MULTILINE)
    column = 2 + ENVIRONMENTS.index(environment)
    told = {cells[0]: cells[column] for row in rows if len(cells := row.split(" | ")) == 5}
    sizes = read_target(environment, "any-project").sizes
    for job, role in (("Dataflow, stream", "stream"), ("Dataflow, loads", "batch")):
        assert told[job].endswith(f"to {sizes[f'{role}_max_workers']} {sizes[f'{role}_machine_type']}")
    assert told["Cloud Storage"] == f"{sizes['landing_keep_days']} days"
    text = (ROOT / "infra" / f"{environment}.tfvars").read_text()
    [units] = re.findall(r"spanner_processing_units += { min = (\d+), max = (\d+) }", text)
    least, most = (f"{int(number):,}" for number in units)
    is_fixed = least == most
    assert told["Spanner, capacity"] == (
        f"{least}, Standard" if is_fixed else f"{least} to {most}, Enterprise"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```\nmake stop-the-stream ENV=small\n```\n", "make has no target stop-the-stream"),
        ("Then `make deplyo`.", "make has no target deplyo"),
        ("Trigger `keep_alive` by hand.", "there is no DAG keep_alive"),
        ("Look at `keep_stream_allive`.", "there is no DAG keep_stream_allive; keep_stream_alive is one"),
        ("```\nairflow dags trigger load_events -c {}\n```\n", "there is no DAG load_events"),
        ("See `infra/alert.tf`.", "there is no infra/alert.tf"),
        ("See `sql/bigquery/shop/<table>/check.sql`.", "there is no sql/bigquery/shop/<table>/check.sql"),
        ("See `requirements.lock.txt`.", "there is no requirements.lock.txt"),
        ("See [costs](cost.md).", "cost.md leads nowhere"),
        ("See [costs](costs.md#how-to-pay).", "costs.md#how-to-pay: the page has no such heading"),
        ("```\npython -m local.stak up\n```\n", "there is no module local.stak"),
        ("Look into `shop_ops.load`.", "there is no table shop_ops.load"),
    ],
)
def test_what_does_not_exist_is_found(text: str, told: str) -> None:
    [mistake] = mistakes(text, INDEX)
    assert mistake.startswith(told)


def test_a_command_that_gcloud_does_not_have_is_found() -> None:
    assert list(wrong_gcloud("```\ngcloud dataflow jobs stop JOB_ID\n```\n"))
    assert list(wrong_gcloud("   ```\n   gcloud dataflow jobs cancel JOB_ID --regoin=x\n   ```\n"))


def test_a_setting_that_nobody_reads_is_found() -> None:
    assert list(wrong_settings("`SHOPSTREAM_MAX_REJECTED_SHARES`"))
    assert not list(wrong_settings("`SHOPSTREAM_STREAM_REJECTED_FAIL_SHARE`"))


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analyzer]:
    with running_analyzer(TABLES.values(), tmp_path_factory.mktemp("googlesql") / "log") as running:
        yield running


def wrong_sql(analyzer: Analyzer, text: str) -> Iterator[str]:
    """What BigQuery would refuse of a page's SQL: its blocks, and what it gives to bq."""
    statements = [code.text for code in blocks(text) if code.language == "sql"]
    queries = [line.partition("' > ")[0] for line in command_lines(text) if line.startswith("bq query ")]
    statements += [query.partition(" '")[2].removesuffix("'") for query in queries]
    for sql in statements:
        try:
            analyzer.analyze(sql, {"day": "DATE"})
        except StatementRefused as error:
            is_elsewhere = error.message.startswith("Table not found") and any(
                one in sql for one in ELSEWHERE
            )
            if not is_elsewhere:
                yield f"{error}\n{sql}"


@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES, ids=names)
def test_bigquery_would_run_each_query_of_a_page(analyzer: Analyzer, page: Path) -> None:
    assert list(wrong_sql(analyzer, page.read_text())) == []


@pytest.mark.integration
def test_a_query_that_bigquery_would_refuse_is_found(analyzer: Analyzer) -> None:
    assert list(wrong_sql(analyzer, "```sql\nSELECT landed_day FROM shop_ops.loads\n```\n"))
    assert list(wrong_sql(analyzer, "```\nbq query 'SELECT COUNT(*) FROM shop_ops.load'\n```\n"))
    assert not list(wrong_sql(analyzer, "```sql\nSELECT landing_day FROM shop_ops.loads\n```\n"))
