"""The assets by which one DAG starts another."""

from airflow.sdk import Asset

EVENTS_PUBLISHED = Asset("x-shopstream://events/published", group="shopstream")
"""Events of some days are new or changed in shop.events; extra is {"days": ["2019-11-01", ...]}."""
