"""The second answer: a person sees what would be forgotten, and says so once more, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from shopstream.alerts import answer_wanted
from shopstream.questions import shown_subject
from shopstream.retries import Refused

if TYPE_CHECKING:
    from airflow.sdk import Context

FORGET, LEAVE = "Forget", "Leave everything"
ANSWER_WITHIN = timedelta(hours=24)
MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Approval:
    """Who had customers forgotten, by the name in Airflow, and why."""

    approved_by: str
    reason: str


class Approve(HITLOperator):
    """Asks whether what was counted shall go. Returns an Approval as texts."""

    template_fields: Sequence[str] = ("counted",)

    def __init__(self, *, counted: Any, **kwargs: Any) -> None:
        """Make the task; `counted` is what tasks.count returns."""
        super().__init__(
            subject="",
            options=[FORGET, LEAVE],
            defaults=[LEAVE],
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )
        self.counted = counted

    def execute(self, context: Context) -> Any:
        """Ask.

        Raises:
            Refused: Airflow would show an earlier question of this run.
            TaskAwaitingInput: somebody is asked.
        """
        found, generation = self.counted["found"], self.counted["generation"]
        listed = f", listed in generation {generation} of the run's object" if generation else ""
        self.subject = (
            f"Forget {self.counted['customers']:,} customers{listed}: {sum(found.values()):,} rows and lines."
        )
        rows = "\n".join(f"| `{store}` | {number:,} |" for store, number in found.items())
        self.body = f"""\
| where | rows or lines |
| --- | --- |
{rows}

Rejected lines count if the number stands in them, in whatever column. **{FORGET}** takes all of it away for \
good, once the 7 days are over in which it can be restored. **{LEAVE}**, or no answer within 24 hours, \
changes nothing."""
        self.params = ParamsDict({"reason": _reason()})
        if (shown := shown_subject(self, context)) != self.subject:
            raise Refused(
                f"{self.subject} But in this run Airflow would show an earlier question: {shown!r} Trigger "
                "forget_customer anew."
            )
        answer_wanted(context, f"{self.subject} Answer in the run's Required Actions within 24 hours.")
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Act as the answer says.

        Raises:
            Refused: nobody answered in time, the answer is to leave everything, or it gives no reason.
        """
        if "error" in event and event["error_type"] != "timeout":
            self.process_trigger_event_error(event)
        user = event.get("responded_by_user")
        if not user:
            raise Refused("Nobody answered within 24 hours: nothing was changed. Trigger it anew.")
        if event["chosen_options"] != [FORGET]:
            raise Refused(f"{user['name']} had everything left as it is.")
        reason = str(event["params_input"].get("reason") or "").strip()
        if not 1 <= len(reason) <= MAX_REASON_CHARS:
            raise Refused(
                f"{user['name']} answered {FORGET!r} with a reason of {len(reason)} characters; 1 to "
                f"{MAX_REASON_CHARS} are kept. Nothing was changed; trigger it anew."
            )
        return asdict(Approval(user["name"], reason))


def _reason() -> Param:
    return Param(
        "",
        type="string",
        minLength=1,
        maxLength=MAX_REASON_CHARS,
        title="Reason",
        description="Why, such as the number of the request. It is kept in shop_ops.forgotten_customers "
        "beside your name: write no customer's name or id into it.",
    )
