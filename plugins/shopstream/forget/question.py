"""The second answer: a person sees what would be forgotten, and says so once more, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shopstream.questions import Question
from shopstream.retries import Refused

if TYPE_CHECKING:
    from airflow.sdk import Context


class Approve(Question):
    """Asks whether what was counted shall go. Returns an Approval as texts."""

    template_fields: Sequence[str] = ("counted",)
    yes, no = "Forget", "Leave everything"

    def __init__(self, *, counted: Any, **kwargs: Any) -> None:
        """Make the task; `counted` is what tasks.count returns."""
        super().__init__(**kwargs)
        self.counted = counted

    def execute(self, context: Context) -> Any:
        """Ask.

        Raises:
            Refused: Airflow would show an earlier question of this run.
            TaskAwaitingInput: somebody is asked.
        """
        found, generation = self.counted["found"], self.counted["generation"]
        listed = f", listed in generation {generation} of the run's object" if generation else ""
        rows = "\n".join(f"| `{store}` | {number:,} |" for store, number in found.items())
        self.ask(
            context,
            f"Customers to forget: {self.counted['customers']:,}{listed}. Rows and lines of them: "
            f"{sum(found.values()):,}.",
            f"""\
| where | rows or lines |
| --- | --- |
{rows}

Rejected lines count if the number stands in them, in whatever column. **{self.yes}** takes all of it away \
for good, once the 7 days are over in which it can be restored. **{self.no}**, or no answer in time, changes \
nothing.""",
            "Why, such as the number of the request. It is kept in shop_ops.forgotten_customers beside your "
            "name: write no customer's name or id into it.",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Act as the answer says.

        Raises:
            Refused: nobody answered in time, the answer is no, or it gives no reason.
        """
        try:
            approval = self.approval(event)
        except Refused as refused:
            raise Refused(f"{refused} Nothing was changed; trigger forget_customer anew.") from None
        rows = sum(self.counted["found"].values())
        self.log.info("%s has them forgotten, rows or lines: %s.", approval.approved_by, f"{rows:,}")
        return asdict(approval)
