"""The main job from landing files to summaries, against a computation of its own over the same files."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from local.events.files import write_landing_day
from tests.dags.shop import Shop
from tools.reference import compare, landing_counts, reference_summaries

pytestmark = pytest.mark.integration

FIRST_DAY = date(2019, 11, 14)
DAYS = [FIRST_DAY + timedelta(days=n) for n in range(2)]


def test_every_figure_of_the_summaries_equals_an_independent_computation(shop: Shop, tmp_path: Path) -> None:
    files = []
    for day in DAYS:
        write_landing_day(tmp_path, day, 4000, late_share=0.02, late_days=1, bad_share=0.008)
        files.append(tmp_path / str(day) / "events.csv")
        for file in (files[-1], files[-1].with_name("_SUCCESS")):
            shop.bucket.blob(f"landing/events/{day}/{file.name}").upload_from_filename(file)
        assert shop.load(day).errors == {}
    expected = reference_summaries(files)
    built = expected["daily_event_count"]["event_date"]
    run = shop.run("build_summaries", first_day=str(min(built)), last_day=str(max(built)), dry_run=False)
    assert run.errors == {}
    for table, frame in expected.items():
        columns = ", ".join(frame.columns)
        rows = shop.query(f"SELECT {columns} FROM shop.{table} WHERE event_date >= '2019-11-01'")
        assert compare(frame, pd.DataFrame(rows, columns=frame.columns)) == []
    counted = pd.DataFrame(
        shop.audit(),
        columns=[
            "landing_day",
            "read",
            "accepted",
            "rejected",
            "duplicates",
            "late",
            "distinct",
            "bigquery_rows",
        ],
    )
    assert list(counted["distinct"]) == list(counted["bigquery_rows"])
    counts = landing_counts(files)
    counted["landing_day"] = pd.to_datetime(counted["landing_day"]).dt.date
    assert compare(counts, counted[counts.columns]) == []
