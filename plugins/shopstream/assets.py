"""The assets by which one DAG starts another."""

from airflow.sdk import Asset

EVENTS_PUBLISHED = Asset("x-shopstream://events/published", group="shopstream")
"""Events of some days are new or changed in shop.events; extra is {"days": ["2019-11-01", ...]}."""

SUMMARIES_BUILT = Asset("x-shopstream://summaries/built", group="shopstream")
"""All summaries of some days were built anew and checked; extra is {"days": ["2019-11-01", ...]}."""
