"""What the gate asks, and what it does with an answer; tests/dags asks and answers for real."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.load import gate
from shopstream.load.checks import LoadRefused
from shopstream.load.gate import Gate
from shopstream.load.launch import Load
from shopstream.load.publish import Published, write_audit_row
from tests.plugins.load.landed import manifest_of

DAY = date(2019, 11, 8)
LOAD = Load(DAY, "20191108-t1", "job", "gs://b/loads/1.json").to_xcom()
OPERATOR = {"id": "7", "name": "operator"}


def answered(
    option: str, reason: str | None = "a test shop's lines", user: dict[str, str] | None = OPERATOR
) -> dict[str, str]:
    """What becomes of an answer, given to Airflow as it gives it to the task."""
    event = {
        "chosen_options": [option],
        "params_input": {} if reason is None else {"reason": reason},
        "responded_at": datetime.now(UTC),
        "responded_by_user": user,
        "timedout": user is None,
    }
    return Gate(task_id="gate", load=LOAD).execute_complete({}, event)


def test_a_day_that_somebody_will_have_published_goes_on_with_their_name_and_reason() -> None:
    assert answered("Publish anyway", "  they are of a test shop ") == {
        "approved_by": "operator",
        "reason": "they are of a test shop",
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"option": "Refuse"}, "operator refused it: a test shop's lines. The day is not published"),
        ({"option": "Refuse", "reason": None}, "operator refused it: no reason given."),
        # As Airflow answers when the time is over.
        ({"option": "Refuse", "reason": "", "user": None}, "nobody answered within 24 hours"),
        ({"option": "Publish anyway", "user": None}, "nobody answered within 24 hours"),
    ],
)
def test_any_other_answer_refuses_the_day_and_says_why(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadRefused, match="landing day 2019-11-08, load 20191108-t1: ") as caught:
        answered(**answer)
    assert words in str(caught.value)


@pytest.mark.parametrize(("reason", "length"), [(" ", "0"), (None, "0"), ("x" * 1001, "1,001")])
def test_who_publishes_without_a_reason_is_told_to_answer_again_and_not_to_correct_files(
    reason: str | None, length: str
) -> None:
    with pytest.raises(LoadRefused) as caught:
        answered("Publish anyway", reason)
    told = str(caught.value)
    assert f"with a reason of {length} characters; give one of 1 to 1,000. The day is not published" in told
    assert told.endswith(
        "The files need no change: trigger load_events_daily for the day again, and answer with a reason."
    )


def test_a_day_refused_for_its_lines_is_to_be_corrected() -> None:
    with pytest.raises(
        LoadRefused, match=r"Correct the landing files and trigger load_events_daily"
    ) as caught:
        answered("Refuse")
    assert "The files need no change" not in str(caught.value)


def test_who_comes_after_the_time_for_an_answer_is_told_to_load_again_and_answer() -> None:
    with pytest.raises(LoadRefused) as caught:
        answered("Refuse", "", user=None)
    told = str(caught.value)
    assert "Nobody has judged the lines" in told
    assert told.endswith(
        "trigger load_events_daily for the day again, and answer in the run's Required Actions."
    )
    assert "Correct the landing files" not in told


def test_a_long_line_of_an_event_may_be_broken_after_each_of_its_commas() -> None:
    """Else Airflow's page would be as wide as the line, with the answers outside of the window."""
    assert gate._code("too_late: 2, such as xxx,99,,x") == (
        "` too_late: 2, such as xxx,\N{ZERO WIDTH SPACE}99,\N{ZERO WIDTH SPACE},\N{ZERO WIDTH SPACE}x `"
    )


def test_the_share_of_rejected_lines_is_rounded_half_up() -> None:
    manifest = replace(manifest_of(DAY, "20191108-t1"), read=800, rejected=1)
    assert gate._subject(manifest).endswith("1 of 800 lines (0.13%) were rejected.")


@pytest.mark.integration
def test_the_question_tells_what_is_usual_by_the_newest_loads_of_28_days(
    bigquery_tables: bigquery_api.Client,
) -> None:
    def rejected(days_before: int, lines: int, load: str = "a") -> None:
        day = DAY - timedelta(days=days_before)
        loaded = replace(manifest_of(day, f"{day:%Y%m%d}-{load}"), read=1000, rejected=lines)
        write_audit_row(bigquery_tables, loaded, "job", Published((day,), 0, 0))

    manifest = replace(manifest_of(DAY, "20191108-t1"), read=1000, accepted=960, rejected=40, late=3)
    assert "None of the 28 days before is loaded" in gate._body(bigquery_tables, manifest, "")
    rejected(2, 900, load="0")
    for days_before, lines in [(1, 1), (2, 3), (28, 9), (29, 500), (0, 700)]:
        rejected(days_before, lines)
    body = gate._body(bigquery_tables, manifest, "  bad_price: 40, such as ```![x](http://x)\n  too_late: 1")
    assert "Usual is 0.30%: the median of the 28 days before, as far as they are loaded (3)." in body
    assert "The highest had 0.90%." in body
    assert "Up to 1.00% (`SHOPSTREAM_MAX_REJECTED_SHARE`)" in body
    assert "| 1,000 | 960 | 1 | 3 | 40 |" in body
    # Nothing of a landing file is markup: it stands between more backticks than it has itself.
    assert "\n- ```` bad_price: 40, such as ```![x](http://x) ````\n- ` too_late: 1 `\n" in body
