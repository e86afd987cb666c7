"""The sensor that waits for the end of a Dataflow job."""

# Google's clients take seconds to import, which parsing a DAG file should not: so the looks import them.
from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException

from shopstream.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from shopstream.gcp.dataflow import DataflowHook


class WaitForJob(BaseSensorOperator):
    """Waits until a Dataflow job is done, giving its worker slot back between two looks.

    It looks often at first and then ever more seldom. A job that ends otherwise fails the task at once and
    for good, since looking again would not change it; the error holds the job's own messages. An answer that
    Dataflow fails to give only postpones the look.
    """

    template_fields: Sequence[str] = ("job_id",)

    def __init__(
        self,
        *,
        job_id: str,
        timeout: timedelta = timedelta(hours=12),
        **kwargs: Any,
    ) -> None:
        """Make the task; `job_id` is a template. Waits grow to SHOPSTREAM_JOB_LOOK_SECONDS, from its half."""
        look = timedelta(seconds=settings().job_look_seconds)
        super().__init__(
            mode="reschedule",
            poke_interval=look / 2,
            exponential_backoff=True,
            max_wait=look,
            timeout=timeout,
            **kwargs,
        )
        self.job_id = job_id

    @cached_property
    def hook(self) -> DataflowHook:
        """The hook of the jobs."""
        from shopstream.gcp.dataflow import DataflowHook

        return DataflowHook()

    def poke(self, context: Context) -> bool:
        """Tell whether the job is done.

        Raises:
            AirflowFailException: it has failed or was cancelled.
            HttpError: there is no such job, or it may not be read.
        """
        from google.auth.exceptions import TransportError
        from googleapiclient.errors import HttpError
        from httplib2 import HttpLib2Error

        try:
            return self._is_done()
        except HttpError as error:
            if error.resp.status != 429 and error.resp.status < 500:
                raise
            self.log.warning("Dataflow did not answer about job %s; will ask again: %s", self.job_id, error)
        except (OSError, HttpLib2Error, TransportError) as error:
            self.log.warning("Dataflow is not reached about job %s; will ask again: %r", self.job_id, error)
        return False

    def _is_done(self) -> bool:
        from shopstream.gcp.dataflow import DataflowJobStatus

        state = self.hook.state(self.job_id)
        self.log.info("Dataflow job %s is %s.", self.job_id, state)
        if state == DataflowJobStatus.JOB_STATE_DONE:
            return True
        if state in DataflowJobStatus.TERMINAL_STATES:
            reasons = self.hook.errors(self.job_id) or "The job has no error message."
            raise AirflowFailException(f"Dataflow job {self.job_id} has ended as {state}. {reasons}")
        return False
