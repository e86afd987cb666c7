"""What the demo refuses at once, what it calls broken, and what it writes of a run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local.demo import __main__ as demo
from local.demo.run import DAY_COLUMNS, Run, broken_invariants, headline
from local.stack import control as stack
from local.stack import emulators

DAY = "2019-11-01"


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    """A run of one day of which nothing is broken."""
    run = Run.into(tmp_path / "out")
    run.landed = {DAY: {"rows": 10, "rejected": 1, "duplicates": 2, "late": 0}}
    counts = (DAY, 10, 9, 1, 2, 0, 7, 7)
    run.days = [dict(zip(DAY_COLUMNS, counts, strict=True))]
    run.stores = {"rejected": {DAY: 1}, "events": 7, "distinct_events": 7}
    run.summaries = {
        table: [
            {"event_type": "view", "event_hour": 9, "events": 5},
            {"event_type": "view", "event_hour": 10, "events": 2},
        ]
        for table in ("daily_event_count", "purchase_conversion_volume", "hourly_price_by_event_type")
    }
    return run


def test_a_whole_run_breaks_nothing(whole: Run) -> None:
    assert broken_invariants(whole) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda run: run.days[0].update(read=11), "rows read = accepted + rejected: 11 is not 10"),
        (lambda run: run.landed[DAY].update(rows=11), "rows landed = rows read: 11 is not 10"),
        (
            lambda run: run.days[0].update(spanner_rows=8),
            "Spanner's rows = accepted - duplicates: 8 is not 7",
        ),
        (
            lambda run: run.days[0].update(bigquery_rows=6),
            "BigQuery's rows = accepted - duplicates: 6 is not 7",
        ),
        (
            lambda run: run.stores["rejected"].update({DAY: 0}),
            "lines kept in rejected_events = rejected: 0 is",
        ),
        (lambda run: run.landed[DAY].update(late=3), "late landed = late counted: 3 is not 0"),
        (lambda run: run.landed.update({"2019-11-02": {"rows": 1}}), "landed but not loaded: 2019-11-02"),
        (lambda run: run.stores.update(distinct_events=6), "shop.events shows 6 events in 7 rows"),
        (
            lambda run: run.summaries.update(daily_event_count=[{"events": 6}]),
            "daily_event_count counts 6 events, shop.events has 7",
        ),
    ],
)
def test_a_count_that_contradicts_another_is_broken(
    whole: Run, change: Callable[[Run], Any], sentence: str
) -> None:
    change(whole)

    assert any(sentence in broken for broken in broken_invariants(whole))


def test_the_result_has_the_counts_and_the_exit_code_tells_whether_anything_is_broken(
    whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole.seconds = {"load": 1.5}

    assert whole.tell() == 0
    result = json.loads((whole.out / "result.json").read_text())
    assert result["days"] == whole.days
    assert result["summaries"]["daily_event_count"] == 2
    assert result["seconds"] == {"load": 1.5}

    whole.broken = ["something"]
    assert whole.tell() == 1
    assert "BROKEN something" in capsys.readouterr().out


def test_every_summary_without_a_row_says_so() -> None:
    assert headline("revenue_daily", []) == "no rows"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.csv", "is no file"),
        ("events.txt", "must end in one of .csv, .csv.gz, .zip"),
        ("part[1].csv", "may have none of"),
    ],
)
def test_an_input_that_cannot_be_loaded_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    if name != "missing.csv":
        (tmp_path / name).touch()

    with pytest.raises(SystemExit):
        demo.main(["--input", str(tmp_path / name), "--out", str(tmp_path / "out")])

    assert sentence in capsys.readouterr().err


def test_a_file_of_more_rows_than_the_memory_holds_is_refused_with_both_numbers(tmp_path: Path) -> None:
    file = tmp_path / "events.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.csv", b" " * 1_330_000)

    assert demo._too_large(file, free_bytes=4_500 * 10_000) is None
    assert "about 10,000 rows" in (demo._too_large(file, free_bytes=4_500 * 9_999) or "")
    assert "room for about 9,999" in (demo._too_large(file, free_bytes=4_500 * 9_999) or "")


def test_a_stack_that_cannot_start_is_told_in_its_own_sentence_even_with_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stack, "STATE", tmp_path / "stack")
    monkeypatch.setenv("SHOPSTREAM_SPANNER_EMULATOR", "/nowhere/emulator_main")
    monkeypatch.setenv("SHOPSTREAM_KEEP_ALIVE_SECONDS", "15")  # else the demo sets it for all tests after
    for variable in stack.DEFAULT_PORTS:
        monkeypatch.setenv(variable, str(emulators.free_port()))

    assert demo.main(["--keep", "--out", str(tmp_path / "out")]) == 1

    assert "BROKEN SHOPSTREAM_SPANNER_EMULATOR names /nowhere/emulator_main" in capsys.readouterr().out


def test_a_headline_adds_the_days_up_with_money_to_the_cent() -> None:
    days = [{"orders": 1_200, "revenue": Decimal("1000.500000000")}, {"orders": 1, "revenue": Decimal(2)}]

    assert headline("revenue_daily", days) == "1,201 orders, 1,002.50 revenue"
