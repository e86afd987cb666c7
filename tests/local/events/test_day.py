"""A generated day as a whole: its rows, its bytes, its counts."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import pandas as pd
import pytest

from beam_jobs import contract
from local.events.day import generate_day
from tests.local.events.frames import DAY, ROWS, SEED, csv_of, frame_of


def test_a_day_passes_the_contract() -> None:
    lines = csv_of(generate_day(DAY, 2000, SEED)).split(b"\n")

    assert lines.pop() == b"", "the last line ends with a newline"
    assert contract.header_columns(lines[0].decode(), "generated") == contract.COLUMN_NAMES
    assert b"\r" not in b"".join(lines)
    events = frame_of(b"\n".join(lines))
    assert len(events) == 2000
    assert events.event_time.str.fullmatch(r"2019-11-02 \d\d:\d\d:\d\d UTC").all()
    assert events.event_time.is_monotonic_increasing
    assert events.price.str.fullmatch(r"\d+\.\d\d").all()
    assert set(events.event_type) <= set(contract.EVENT_TYPES)
    for column in ("product_id", "category_id", "user_id"):
        assert events[column].str.fullmatch(r"[1-9]\d{0,18}").all()
    assert events.user_session.str.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    ).all()
    assert events.category_code.str.fullmatch(r"|[a-z_]+(\.[a-z_]+){1,3}").all()


@pytest.mark.parametrize("events", [0, 1, 10, 777])
def test_a_day_has_exactly_as_many_rows_as_asked_for(events: int) -> None:
    chunks = list(generate_day(DAY, events, SEED, late_share=0.1, bad_share=0.1))
    lines = b"".join(chunk.csv for chunk in chunks).splitlines()

    assert len(lines) == 1 + events
    assert sum(chunk.counts.rows for chunk in chunks) == events


def test_the_same_arguments_give_the_same_bytes_whatever_was_generated_before() -> None:
    first = csv_of(generate_day(DAY, 3000, SEED, late_share=0.01, bad_share=0.01))
    list(generate_day(DAY + dt.timedelta(1), 1000, SEED))

    assert csv_of(generate_day(DAY, 3000, SEED, late_share=0.01, bad_share=0.01)) == first
    assert csv_of(generate_day(DAY, 3000, SEED + 1, late_share=0.01, bad_share=0.01)) != first
    assert csv_of(generate_day(DAY + dt.timedelta(1), 3000, SEED)) != first


def test_memory_does_not_grow_with_the_day() -> None:
    program = (
        "import datetime as dt\n"
        "from local.events.day import generate_day\n"
        "def peak(events):\n"
        "    for chunk in generate_day(dt.date(2019, 11, 2), events): pass\n"
        # Not getrusage's ru_maxrss, in which the process that started this one is seen too.
        "    status = open('/proc/self/status').read()\n"
        "    return int(status.partition('VmHWM:')[2].split()[0]) // 1024\n"
        "print(peak(500_000), peak(2_000_000))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    quarter_mebibytes, whole_mebibytes = map(int, ran.stdout.split())

    # The two million rows are 255 MiB of text.
    assert whole_mebibytes < 450
    assert whole_mebibytes - quarter_mebibytes < 100


def test_exact_duplicates_are_as_many_as_published_and_counted(month: pd.DataFrame) -> None:
    chunks = list(generate_day(DAY, 40_000, SEED))
    events = frame_of(b"".join(chunk.csv for chunk in chunks))
    found = events.duplicated().sum()

    assert found == sum(chunk.counts.duplicates for chunk in chunks) == round(40_000 * 100_519 / ROWS)
    assert month.duplicated().mean() == pytest.approx(100_519 / ROWS, rel=0.02)


def test_late_sessions_are_of_the_days_before_and_counted() -> None:
    chunks = list(generate_day(DAY, 20_000, SEED, late_share=0.02))
    events = frame_of(b"".join(chunk.csv for chunk in chunks))
    days = events.event_time.str[:10].value_counts()

    assert set(days.index) == {"2019-10-30", "2019-10-31", "2019-11-01", "2019-11-02"}
    late = sum(chunk.counts.late for chunk in chunks)
    assert late == len(events) - days["2019-11-02"]
    assert late / len(events) == pytest.approx(0.02, rel=0.5)
    assert (events.groupby("user_session").event_time.agg(lambda times: times.str[:10].nunique()) == 1).all()


def test_late_days_bounds_how_late_sessions_are() -> None:
    events = frame_of(csv_of(generate_day(DAY, 20_000, SEED, late_share=0.02, late_days=1)))

    assert set(events.event_time.str[:10]) == {"2019-11-01", "2019-11-02"}
