"""Google's clients, with the credentials of Airflow's connection google_cloud_default.

While one tries a request again, it says in the task's log what it waits for.

Tasks call these; the imports are inside, since they take seconds that parsing a DAG file should not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beam_jobs.waiting import tell_waiting
from shopstream.settings import settings

if TYPE_CHECKING:
    from google.cloud.bigquery import Client as BigQueryClient
    from google.cloud.spanner_v1.database import Database
    from google.cloud.storage import Client as StorageClient


def spanner_database() -> Database:
    """The deployment's Spanner database; nothing is asked of Spanner yet.

    Airflow's SpannerHook first asks whether the instance exists, which needs a further permission.
    """
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    from google.cloud import spanner

    tell_waiting()
    env = settings()
    client = spanner.Client(project=env.project, credentials=GoogleBaseHook().get_credentials())
    return client.instance(env.spanner_instance).database(env.spanner_database)


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
