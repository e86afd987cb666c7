"""Google's clients, with the credentials of Airflow's connection google_cloud_default.

While one tries a request again, it says in the task's log what it waits for.

Tasks call these; the imports are inside, since they take seconds that parsing a DAG file should not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from beam_jobs.waiting import tell_waiting
from shopstream.settings import settings

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery import Client as BigQueryClient
    from google.cloud.spanner_v1.database import Database
    from google.cloud.storage import Client as StorageClient

READ_SECONDS = 600.0


def spanner_database() -> Database:
    """The deployment's Spanner database; nothing is asked of Spanner yet.

    Airflow's SpannerHook first asks whether the instance exists, which needs a further permission.
    """
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    from google.cloud import spanner

    tell_waiting()
    env = settings()
    client = spanner.Client(project=env.project, credentials=GoogleBaseHook().get_credentials())
    return with_waiting_reads(client.instance(env.spanner_instance).database(env.spanner_database))


def with_waiting_reads(database: Database, seconds: float = READ_SECONDS) -> Database:
    """Let reads and partitioned DML wait while Spanner does not answer, at most so long; return the database.

    Its client begins such a request anew at once, again and again, without a pause, a word or an end
    (google.cloud.spanner_v1.snapshot._restart_on_unavailable). One that was answered and then broke off is
    still begun anew at once, and may then wait as long again.
    """
    from google.api_core.exceptions import ResourceExhausted, ServiceUnavailable
    from google.api_core.retry import Retry, if_exception_type

    retry = Retry(
        if_exception_type(ResourceExhausted, ServiceUnavailable), initial=0.5, maximum=30.0, timeout=seconds
    )
    api = database.spanner_api
    for name in ("execute_streaming_sql", "streaming_read"):
        setattr(api, name, partial(_call, getattr(api, name), retry))
    return database


def _call(method: Callable[..., Any], waiting: Retry, *, retry: Any = None, **options: Any) -> Any:
    from google.api_core.retry import Retry

    return method(retry=retry if isinstance(retry, Retry) else waiting, **options)


def bigquery_client() -> BigQueryClient:
    """A BigQuery client of the deployment's project and region."""
    from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

    tell_waiting()
    env = settings()
    return BigQueryHook(location=env.region, use_legacy_sql=False).get_client(
        project_id=env.project, location=env.region
    )


def storage_client() -> StorageClient:
    """A Cloud Storage client."""
    from airflow.providers.google.cloud.hooks.gcs import GCSHook

    tell_waiting()
    return GCSHook().get_conn()
