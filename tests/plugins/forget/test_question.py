"""What becomes of an answer; tests/dags asks and answers for real."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shopstream.forget.question import Approve
from shopstream.retries import Refused


def answered(option: str, reason: str, user: dict[str, str] | None) -> Any:
    """What becomes of an answer, given to Airflow as it gives it to the task."""
    event = {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": datetime.now(UTC),
        "responded_by_user": user,
        "timedout": user is None,
    }
    return Approve(task_id="approve", counted={"found": {"Spanner loaded_events": 2}}).execute_complete(
        {}, event
    )


OPERATOR = {"id": "7", "name": "operator"}


def test_who_has_a_customer_forgotten_is_known_with_the_reason() -> None:
    assert answered("Forget", " request 17 ", OPERATOR) == {"approved_by": "operator", "reason": "request 17"}


@pytest.mark.parametrize(
    ("option", "reason", "user", "words"),
    [
        ("Leave everything", "no", OPERATOR, "operator refused it: no. Nothing was changed"),
        # As Airflow answers when the time is over.
        ("Leave everything", "", None, "nobody answered within 24 hours"),
        ("Forget", "request 17", None, "nobody answered within 24 hours"),
        ("Forget", " ", OPERATOR, "with a reason of 0 characters"),
        ("Forget", "x" * 1001, OPERATOR, "with a reason of 1,001 characters; give one of 1 to 1,000"),
    ],
)
def test_any_other_answer_changes_nothing_and_says_why(
    option: str, reason: str, user: dict[str, str] | None, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        answered(option, reason, user)
