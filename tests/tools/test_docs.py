"""docs/dags.md is what the DAGs say, and docs/tables.md what sql/bigquery says."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from local.root import ROOT
from shopstream.tables.folder import load_table
from tools import docs


def test_the_pages_are_what_the_dags_and_tables_say_and_the_check_says_so() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "tools.docs", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def dag(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "dag_id": "one",
        "description": "Does one thing",
        "schedule": None,
        "timetable": SimpleNamespace(),
        "tags": {"batch"},
        "max_active_runs": 1,
        "params": {},
        "doc_md": "### Purpose\nOne thing.\n",
        "topological_sort": list,
    }
    return SimpleNamespace(**(fields | changes))


def test_a_schedule_by_time_and_a_choice_are_told() -> None:
    how = SimpleNamespace(schema={"enum": ["drain", "cancel"]}, description="How to stop")
    params = type("Params", (dict,), {"get_param": lambda self, name: self[name]})(how=how)
    text = docs.dags_page([dag(schedule=timedelta(minutes=10), params=params)])
    assert "Runs every 10 minutes, or by hand" in text
    assert "| `how` | `drain` or `cancel` | How to stop |" in text


def test_a_changed_text_is_told_with_the_change(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(docs, "PAGES", tmp_path)
    monkeypatch.setattr(docs, "parse_dags", lambda: [dag()])
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0

    monkeypatch.setattr(docs, "parse_dags", lambda: [dag(doc_md="### Purpose\nAnother thing.\n")])
    assert docs.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "-One thing." in told
    assert "+Another thing." in told
    assert "docs/dags.md is not what the DAGs say; write it by `python -m tools.docs`" in told


def test_a_table_is_told_with_its_grain_columns_checks_and_cases() -> None:
    table = load_table(docs.SQL_DIR, "shop.revenue_daily")
    text = docs.tables_page([table])
    assert "| [revenue_daily](#shoprevenue_daily) | event_date | 7 days | 3 fail, 3 warn |" in text
    assert "Made from shop.customer_purchases, shop.daily_event_count; partitioned by event_date; " in text
    assert "| `orders` | INT64 REQUIRED | " in text
    assert "`every_purchase_counted` (fail)" in text
