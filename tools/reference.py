"""What the summaries must say, computed a second time, straight from the CSV files, by other means.

Nothing of the pipeline is used here: the contract's rules are written again, line by line, in plain Python,
and the summaries again in DuckDB's SQL. So an error would have to be made twice to go unseen. Of a column
only its type is taken from its table, and whether it names a row.

    python -m tools.reference --csv build/demo/2019-*.csv --against build/demo

compares with the tables that a demo wrote, prints a verdict for each, and exits non-zero on a difference.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
import math
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import duckdb
import pandas as pd

from local.root import ROOT
from shopstream.tables.folder import Table, all_tables

COLUMNS = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
MAX_LINE_BYTES = 65_536
MAX_CHARS = {"category_code": 256, "brand": 256, "user_session": 128}
LATENESS = timedelta(days=7)
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)(?: ?UTC|Z| ?([+-])(\d\d):?(\d\d)?)", re.ASCII
)
INTEGER = re.compile(r"(\d{1,19})(\.0+)?", re.ASCII)
MAX_FLOAT_INTEGER = 2**53
NOTHING = {"", "null", "none", r"\n"}
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
PRICE = re.compile(r"\d{1,12}(\.\d{1,9}0*)?", re.ASCII)
FIELD = r'(?:[^",]*|"(?:[^"]|"")*")'
QUOTED_LINE = re.compile(f"{FIELD}(?:,{FIELD})*")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

SUMMARIES = {
    "daily_event_count": """
        SELECT event_date, event_type, count(*) AS events, count(DISTINCT user_id) AS users,
               count(DISTINCT user_session) AS sessions
        FROM events GROUP BY ALL""",
    "most_visited_subcategories": """
        SELECT event_date, subcategory, count(*) AS views
        FROM events WHERE event_type = 'view' AND subcategory IS NOT NULL GROUP BY ALL""",
    "hourly_price_by_event_type": """
        SELECT event_date, hour(event_time) AS event_hour, event_type, count(*) AS events,
               sum(price)::VARCHAR AS price_sum,
               sum(price)::VARCHAR || '/' || count(*) AS price_average
        FROM events GROUP BY ALL""",
    "purchase_conversion_volume": """
        SELECT event_date, 1 + dayofweek(event_date) AS weekday, dayname(event_date) AS weekday_name,
               event_type, count(*) AS events
        FROM events GROUP BY ALL""",
    "purchase_conversion_rate": """
        WITH totals AS (
            SELECT event_date, subcategory, count(*) AS everything,
                   count(*) FILTER (WHERE event_type = 'view') AS views,
                   count(*) FILTER (WHERE event_type = 'purchase') AS purchases
            FROM events WHERE subcategory IS NOT NULL GROUP BY ALL
        ), types AS (
            SELECT event_date, subcategory, event_type, count(*) AS events FROM events GROUP BY ALL
        )
        SELECT event_date, subcategory, event_type, events,
               events::DOUBLE / everything AS share_of_events,
               CASE WHEN views > 0 THEN purchases::DOUBLE / views END AS purchases_per_view
        FROM types JOIN totals USING (event_date, subcategory)""",
    "customer_purchases": """
        SELECT event_date, user_id, count(DISTINCT (user_session, 'as a whole')) AS orders,
               count(*) AS purchases, sum(price)::VARCHAR AS revenue
        FROM events WHERE event_type = 'purchase' GROUP BY ALL""",
    "customer_value": """
        WITH customers AS (
            SELECT day AS event_date, user_id, max(event_date) AS last_purchase_date,
                   count(DISTINCT (event_date, user_session)) AS orders, sum(price) AS revenue
            FROM days JOIN events ON event_date BETWEEN day - 89 AND day
            WHERE event_type = 'purchase' GROUP BY day, user_id
        )
        SELECT event_date, user_id, last_purchase_date, event_date - last_purchase_date AS recency_days,
               orders, revenue::VARCHAR AS revenue,
               1 + 5 * count(*) OVER less_recent // count(*) OVER all_of_day AS recency_score,
               1 + 5 * count(*) OVER fewer_orders // count(*) OVER all_of_day AS frequency_score,
               1 + 5 * count(*) OVER less_revenue // count(*) OVER all_of_day AS monetary_score
        FROM customers
        WINDOW all_of_day AS (PARTITION BY event_date),
               less_recent AS (PARTITION BY event_date ORDER BY last_purchase_date
                               RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
               fewer_orders AS (PARTITION BY event_date ORDER BY orders
                                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
               less_revenue AS (PARTITION BY event_date ORDER BY revenue
                                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)""",
    "customer_retention": """
        WITH purchases AS (
            SELECT *, date_trunc('week', event_date)::DATE AS week FROM events WHERE event_type = 'purchase'
        ), members AS (
            SELECT user_id, week AS cohort_week, min(event_date) AS joined_on
            FROM purchases AS one
            WHERE NOT EXISTS (FROM purchases AS other WHERE other.user_id = one.user_id
                              AND other.week BETWEEN one.week - 84 AND one.week - 1)
            GROUP BY ALL
        ), paid AS (
            SELECT day, user_id, sum(price) AS revenue
            FROM days JOIN purchases ON week = date_trunc('week', day) AND event_date <= day GROUP BY ALL
        )
        SELECT day AS event_date, cohort_week,
               date_diff('week', cohort_week, day) AS weeks_since,
               dayname(day) = 'Sunday' AS week_is_complete,
               count(*) AS customers, count(paid.user_id) AS active_customers,
               count(paid.user_id)::DOUBLE / count(*) AS retention_rate,
               coalesce(sum(paid.revenue), 0)::VARCHAR AS revenue
        FROM days JOIN members ON joined_on <= day AND date_diff('week', cohort_week, day) <= 12
        LEFT JOIN paid USING (day, user_id)
        GROUP BY day, cohort_week""",
    "purchase_funnels": """
        WITH units AS (
            SELECT event_date, if(grouping(subcategory) = 1, 'shop', 'subcategory') AS scope, subcategory,
                   if(grouping(product_id) = 1, 'session', 'session_product') AS unit,
                   list(event_time) FILTER (event_type = 'view') AS views,
                   list(event_time) FILTER (event_type = 'cart') AS carts,
                   list(event_time) FILTER (event_type = 'purchase') AS purchases
            FROM events WHERE user_session IS NOT NULL
            GROUP BY GROUPING SETS (
                (event_date, user_session), (event_date, user_session, product_id),
                (event_date, subcategory, user_session), (event_date, subcategory, user_session, product_id)
            )
        ), ways AS (
            SELECT *, [cart FOR cart IN carts IF cart >= list_min(views)] AS carts_since_view,
                   [cart FOR cart IN carts IF cart <= list_max(purchases)] AS carts_till_purchase,
                   CASE WHEN purchases IS NULL THEN 'none'
                        WHEN views IS NULL THEN 'without view'
                        WHEN list_max(purchases) < list_min(views) THEN 'before view'
                        WHEN list_has_any(carts_since_view, carts_till_purchase) THEN 'view, cart, purchase'
                        WHEN len(carts_till_purchase) > 0 THEN 'cart, view, purchase'
                        ELSE 'view, purchase' END AS way
            FROM units
        ), counts AS (
            SELECT event_date, scope, subcategory, unit, count(*) AS units, count(views) AS viewed,
                   count(carts) AS carted, count(purchases) AS purchased,
                   count(*) FILTER (len(carts_since_view) > 0) AS view_cart,
                   count(*) FILTER (way = 'view, cart, purchase') AS view_cart_purchase,
                   count(*) FILTER (way = 'view, purchase') AS view_purchase,
                   count(*) FILTER (way = 'cart, view, purchase') AS cart_view_purchase,
                   count(*) FILTER (way = 'before view') AS purchase_before_view,
                   count(*) FILTER (way = 'without view') AS purchase_without_view
            FROM ways GROUP BY event_date, scope, subcategory, unit
        )
        SELECT *, view_cart::DOUBLE / nullif(viewed, 0) AS view_cart_rate,
               view_cart_purchase::DOUBLE / nullif(view_cart, 0) AS cart_purchase_rate,
               view_cart_purchase::DOUBLE / nullif(viewed, 0) AS view_cart_purchase_rate,
               view_purchase::DOUBLE / nullif(viewed, 0) AS view_purchase_rate,
               (purchased - purchase_before_view - purchase_without_view)::DOUBLE / nullif(viewed, 0)
               AS conversion_rate
        FROM counts""",
    "cart_abandonment": """
        WITH carts AS (
            SELECT event_date, user_session, product_id, max(subcategory) AS subcategory,
                   min(event_time) AS since, max(price) AS price
            FROM events WHERE event_type = 'cart' AND user_session IS NOT NULL
            GROUP BY event_date, user_session, product_id
        ), purchases AS (
            FROM events WHERE event_type = 'purchase'
        ), judged AS (
            SELECT *, EXISTS (FROM purchases AS bought
                              WHERE bought.event_date = carts.event_date AND bought.event_time >= since
                              AND bought.user_session = carts.user_session
                              AND bought.product_id = carts.product_id) AS is_sold,
                   EXISTS (FROM purchases AS bought
                           WHERE bought.event_date = carts.event_date AND bought.event_time >= since
                           AND bought.user_session = carts.user_session) AS has_order
            FROM carts
        )
        SELECT event_date, subcategory, hour(since) AS cart_hour, count(*) AS carts,
               sum(price)::VARCHAR AS cart_value,
               count(*) FILTER (NOT is_sold) AS abandoned_carts,
               coalesce(sum(price) FILTER (NOT is_sold), 0)::VARCHAR AS abandoned_value,
               count(*) FILTER (NOT has_order) AS carts_without_order,
               coalesce(sum(price) FILTER (NOT has_order), 0)::VARCHAR AS value_without_order,
               avg(if(is_sold, 0, 1)) AS abandonment_rate
        FROM judged GROUP BY event_date, subcategory, cart_hour""",
    "product_performance": """
        SELECT * EXCLUDE (what), what AS product_id
        FROM performance_of_product_ids
        JOIN (SELECT event_date, product_id AS what, max(category_code) AS category_code, max(brand) AS brand
              FROM events GROUP BY ALL) USING (event_date, what)""",
    "brand_performance": "SELECT * EXCLUDE (what), what AS brand FROM performance_of_brands",
    "revenue_daily": """
        WITH sums AS (
            SELECT event_date, count(*) AS purchases, sum(price) AS revenue,
                   count(DISTINCT user_id) AS buyers, count(DISTINCT (user_id, user_session)) AS orders
            FROM events WHERE event_type = 'purchase' GROUP BY event_date
        ), built AS (
            SELECT event_date, coalesce(purchases, 0) AS purchases, coalesce(buyers, 0) AS buyers,
                   coalesce(orders, 0) AS orders, coalesce(revenue, 0) AS revenue,
                   revenue::VARCHAR || '/' || orders AS average_order_value
            FROM (SELECT DISTINCT event_date FROM events) LEFT JOIN sums USING (event_date)
        )
        SELECT now.* REPLACE (now.revenue::VARCHAR AS revenue), before.orders AS orders_week_before,
               before.buyers AS buyers_week_before, before.revenue::VARCHAR AS revenue_week_before,
               before.average_order_value AS average_order_value_week_before,
               (now.revenue - before.revenue)::VARCHAR || '/' || nullif(before.revenue, 0) AS revenue_change
        FROM built AS now LEFT JOIN built AS before ON before.event_date = now.event_date - 7""",
    "sessions": "FROM whole_sessions",
    "session_paths": """
        SELECT event_date, path, count(*) AS sessions, sum(count(*)) OVER of_day AS all_sessions,
               count(*)::DOUBLE / sum(count(*)) OVER of_day AS share_of_sessions,
               count(*) FILTER (purchases > 0) AS purchasing_sessions,
               sum(revenue::DECIMAL(38, 9))::VARCHAR AS revenue,
               row_number() OVER (PARTITION BY event_date ORDER BY count(*) DESC, path) AS place
        FROM whole_sessions GROUP BY event_date, path
        WINDOW of_day AS (PARTITION BY event_date)
        QUALIFY place <= 100""",
    "bought_together": """
        WITH bought AS (
            SELECT event_date, 'session' AS unit, user_session AS who, product_id, subcategory
            FROM events WHERE event_type = 'purchase' AND user_session IS NOT NULL
            UNION ALL
            SELECT event_date, 'customer', user_id::VARCHAR, product_id, subcategory
            FROM events WHERE event_type = 'purchase'
        ), filled AS (
            SELECT event_date, unit, who, 'product' AS kind, list_distinct(list(product_id::VARCHAR)) AS held
            FROM bought GROUP BY ALL
            UNION ALL
            SELECT event_date, unit, who, 'subcategory', list_distinct(list(subcategory))
            FROM bought WHERE subcategory IS NOT NULL GROUP BY ALL
        ), single AS (
            SELECT event_date, unit, kind, item, count(*) AS n
            FROM (SELECT *, unnest(held) AS item FROM filled) GROUP BY ALL
        ), paired AS (
            SELECT event_date, unit, kind, pair.a AS item_a, pair.b AS item_b, count(*) AS baskets
            FROM (SELECT *, unnest(flatten([[{'a': a, 'b': b} FOR b IN held IF a < b] FOR a IN held])) AS pair
                  FROM filled)
            GROUP BY ALL
        ), counted AS (
            SELECT paired.*, one.n AS baskets_a, other.n AS baskets_b,
                   (SELECT count(*) FROM filled WHERE filled.event_date = paired.event_date
                    AND filled.unit = paired.unit AND filled.kind = paired.kind) AS all_baskets
            FROM paired
            JOIN single AS one ON one.event_date = paired.event_date AND one.unit = paired.unit
                 AND one.kind = paired.kind AND one.item = item_a
            JOIN single AS other ON other.event_date = paired.event_date AND other.unit = paired.unit
                 AND other.kind = paired.kind AND other.item = item_b
        )
        SELECT *, baskets::DOUBLE / all_baskets AS support, baskets::DOUBLE / baskets_a AS confidence_a,
               baskets::DOUBLE / baskets_b AS confidence_b,
               (baskets::DOUBLE / baskets_a) / (baskets_b::DOUBLE / all_baskets) AS lift,
               row_number() OVER (PARTITION BY event_date, unit, kind
                                  ORDER BY baskets DESC, baskets_a * baskets_b, item_a, item_b) AS place
        FROM counted QUALIFY place <= 100""",
    "time_to_purchase": """
        WITH sold AS (
            SELECT event_date, 'session' AS unit, user_session AS who, product_id,
                   max(subcategory) AS subcategory, min(event_time) AS bought_at
            FROM events WHERE event_type = 'purchase' AND user_session IS NOT NULL GROUP BY ALL
            UNION ALL
            SELECT event_date, 'customer', user_id::VARCHAR, product_id, max(subcategory), min(event_time)
            FROM events WHERE event_type = 'purchase' GROUP BY ALL
        ), seen AS (
            SELECT 'session' AS unit, user_session AS who, product_id, event_time
            FROM events WHERE event_type = 'view'
            UNION ALL
            SELECT 'customer', user_id::VARCHAR, product_id, event_time FROM events WHERE event_type = 'view'
        ), timed AS (
            SELECT sold.*, date_sub('second', min(event_time), any_value(bought_at)) AS seconds
            FROM sold LEFT JOIN seen ON seen.unit = sold.unit AND seen.who = sold.who
                 AND seen.product_id = sold.product_id AND event_time <= bought_at
                 AND event_time >= bought_at - INTERVAL 30 DAY
            GROUP BY ALL
        ), leveled AS (
            SELECT event_date, unit, subcategory,
                   if(grouping(subcategory) = 1, 'shop', 'subcategory') AS scope,
                   count(*) AS purchases, coalesce(list_sort(list(seconds) FILTER (seconds IS NOT NULL)), [])
                   AS times
            FROM timed GROUP BY GROUPING SETS ((event_date, unit), (event_date, unit, subcategory))
        )
        SELECT event_date, scope, subcategory, unit, purchases, len(times) AS viewed_purchases,
               len([t FOR t IN times IF t <= 60]) AS up_to_1_minute,
               len([t FOR t IN times IF t <= 10 * 60]) AS up_to_10_minutes,
               len([t FOR t IN times IF t <= 60 * 60]) AS up_to_1_hour,
               len([t FOR t IN times IF t <= 24 * 60 * 60]) AS up_to_1_day,
               len([t FOR t IN times IF t <= 7 * 24 * 60 * 60]) AS up_to_7_days,
               times[(len(times) + 3) // 4] AS first_quartile_seconds,
               times[(len(times) + 1) // 2] AS median_seconds,
               times[(3 * len(times) + 3) // 4] AS third_quartile_seconds,
               times[(9 * len(times) + 9) // 10] AS ninth_decile_seconds
        FROM leveled""",
}
"""The summaries over the distinct events of all files; `events` has the typed columns, event_date, and
subcategory, the second level of the category code; `days` has each day from the first event to the last.

An average is given as its sum and its count, "12.5/3", and a change as two amounts, so that nothing is lost
before they are divided."""

VIEWS = {
    "session_funnels": """
        SELECT event_date, landing_subcategory, count(*) AS sessions, count(*) FILTER (views > 0) AS viewed,
               count(*) FILTER (carts > 0) AS carted, count(*) FILTER (purchases > 0) AS purchased,
               count(*) FILTER (funnel LIKE 'view_cart%') AS view_cart,
               count(*) FILTER (funnel = 'view_cart_purchase') AS view_cart_purchase,
               count(*) FILTER (funnel = 'view_purchase') AS view_purchase,
               count(*) FILTER (funnel = 'cart_view_purchase') AS cart_view_purchase,
               count(*) FILTER (funnel = 'purchase_before_view') AS purchase_before_view,
               count(*) FILTER (funnel = 'purchase_without_view') AS purchase_without_view,
               count(*) FILTER (purchases > 0 AND funnel NOT LIKE 'purchase_%')::DOUBLE
               / nullif(count(*) FILTER (views > 0), 0) AS conversion_rate,
               sum(carted_products) AS carts, sum(cart_value::DECIMAL(38, 9))::VARCHAR AS cart_value,
               sum(abandoned_products) AS abandoned_carts,
               sum(abandoned_value::DECIMAL(38, 9))::VARCHAR AS abandoned_value,
               sum(abandoned_products)::DOUBLE / nullif(sum(carted_products), 0) AS abandonment_rate
        FROM whole_sessions GROUP BY event_date, landing_subcategory""",
    "top_brands_by_revenue": """
        WITH sold AS (
            SELECT event_date, brand AS what, sum(price) AS paid
            FROM events WHERE event_type = 'purchase' GROUP BY ALL
        )
        SELECT event_date, what AS brand, views, purchases, revenue, conversion_rate,
               row_number() OVER (PARTITION BY event_date ORDER BY paid DESC, what) AS place
        FROM sold JOIN performance_of_brands USING (event_date, what)
        WHERE paid > 0 QUALIFY place <= 100""",
    "top_products_by_revenue": """
        WITH sold AS (
            SELECT event_date, product_id AS what, max(category_code) AS category_code, max(brand) AS brand,
                   sum(price) FILTER (event_type = 'purchase') AS paid
            FROM events GROUP BY ALL
        )
        SELECT event_date, what AS product_id, category_code, brand, views, purchases, revenue,
               conversion_rate,
               row_number() OVER (PARTITION BY event_date ORDER BY paid DESC, what) AS place
        FROM sold JOIN performance_of_product_ids USING (event_date, what)
        WHERE paid > 0 QUALIFY place <= 100""",
}
"""The views that show days of summaries."""

WHOLE_SESSIONS = """
    CREATE TABLE whole_sessions AS
    WITH mine AS (
        SELECT * REPLACE (if(hour(event_time) < 12 AND EXISTS (
                   FROM events AS earlier WHERE earlier.user_session = own.user_session
                   AND earlier.event_time >= own.event_date - INTERVAL 12 HOUR
                   AND earlier.event_time < own.event_date), event_date - 1, event_date) AS event_date),
               event_date AS day_of_event,
               event_type || ' ' || coalesce(subcategory, '(no sub-category)') AS step,
               list_position(['view', 'cart', 'purchase'], event_type) AS turn
        FROM events AS own WHERE user_session IS NOT NULL
    ), carted AS (
        SELECT event_date, user_session, product_id, min(event_time) AS since, max(price) AS price
        FROM mine WHERE event_type = 'cart' GROUP BY ALL
    ), judged AS (
        SELECT *, EXISTS (FROM mine AS bought
                          WHERE event_type = 'purchase' AND bought.event_date = carted.event_date
                          AND bought.user_session = carted.user_session
                          AND bought.product_id = carted.product_id AND event_time >= since) AS is_sold
        FROM carted
    ), baskets AS (
        SELECT event_date, user_session, count(*) AS carted_products, sum(price) AS cart_value,
               count(*) FILTER (NOT is_sold) AS abandoned_products,
               sum(price) FILTER (NOT is_sold) AS abandoned_value
        FROM judged GROUP BY ALL
    ), whole AS (
        SELECT event_date, user_session, min({'since': event_time, 'id': user_id}).id AS user_id,
               min(event_time) AS started_at, max(event_time) AS ended_at, count(*) AS events,
               count(*) FILTER (day_of_event > event_date) AS events_after_midnight,
               count(DISTINCT product_id) AS products,
               coalesce(sum(price) FILTER (event_type = 'purchase'), 0) AS revenue,
               min({'since': event_time, 'last': category_code IS NULL, 'code': category_code}).code
               AS landing_category_code,
               list(event_time) FILTER (event_type = 'view') AS views,
               list(event_time) FILTER (event_type = 'cart') AS carts,
               list(event_time) FILTER (event_type = 'purchase') AS purchases,
               list(step ORDER BY event_time, turn, step) AS all_steps
        FROM mine GROUP BY ALL
    ), walked AS (
        SELECT *, [cart FOR cart IN carts IF cart >= list_min(views)] AS carts_since_view,
               [cart FOR cart IN carts IF cart <= list_max(purchases)] AS carts_till_purchase,
               [step FOR step, n IN all_steps IF n = 1 OR step != all_steps[n - 1]] AS way
        FROM whole
    )
    SELECT event_date, user_session, user_id, started_at,
           date_sub('second', started_at, ended_at) AS seconds,
           EXISTS (FROM events AS bought WHERE event_type = 'purchase' AND bought.user_id = walked.user_id
                   AND bought.event_date BETWEEN walked.event_date - 89 AND walked.event_date - 1)
           AS is_returning_customer,
           events, events_after_midnight, products, coalesce(len(views), 0) AS views,
           coalesce(len(carts), 0) AS carts, coalesce(len(purchases), 0) AS purchases,
           coalesce(carted_products, 0) AS carted_products,
           coalesce(abandoned_products, 0) AS abandoned_products, revenue::VARCHAR AS revenue,
           coalesce(cart_value, 0)::VARCHAR AS cart_value,
           coalesce(abandoned_value, 0)::VARCHAR AS abandoned_value,
           landing_category_code, string_split(landing_category_code, '.')[2] AS landing_subcategory,
           CASE WHEN purchases IS NULL AND views IS NULL THEN 'cart'
                WHEN purchases IS NULL THEN if(len(carts_since_view) > 0, 'view_cart', 'view')
                WHEN views IS NULL THEN 'purchase_without_view'
                WHEN list_max(purchases) < list_min(views) THEN 'purchase_before_view'
                WHEN list_has_any(carts_since_view, carts_till_purchase) THEN 'view_cart_purchase'
                WHEN len(carts_till_purchase) > 0 THEN 'cart_view_purchase'
                ELSE 'view_purchase' END AS funnel,
           len(way) AS steps, array_to_string(way[:6], ' > ') || if(len(way) > 6, ' > ...', '') AS path
    FROM walked LEFT JOIN baskets USING (event_date, user_session)"""
"""Each session, on its first day, with its events up to the noon of the day after."""

PERFORMANCE = """
    CREATE VIEW performance_of_{column}s AS
    WITH first_views AS (
        SELECT event_date, {column} AS what, user_session, min(event_time) AS since
        FROM events WHERE event_type = 'view' AND user_session IS NOT NULL GROUP BY ALL
    ), purchases AS (
        SELECT *, {column} AS what FROM events WHERE event_type = 'purchase'
    ), judged AS (
        SELECT *, EXISTS (FROM purchases AS bought
                          WHERE bought.event_date = first_views.event_date AND event_time >= since
                          AND bought.what IS NOT DISTINCT FROM first_views.what
                          AND bought.user_session = first_views.user_session) AS is_converted
        FROM first_views
    ), sessions AS (
        SELECT event_date, what, count(*) AS viewing_sessions,
               count(*) FILTER (is_converted) AS converted_sessions
        FROM judged GROUP BY ALL
    ), sums AS (
        SELECT event_date, {column} AS what, count(*) FILTER (event_type = 'view') AS views,
               count(*) FILTER (event_type = 'cart') AS carts,
               count(*) FILTER (event_type = 'purchase') AS purchases,
               coalesce(sum(price) FILTER (event_type = 'purchase'), 0)::VARCHAR AS revenue,
               (sum(price) FILTER (event_type = 'view' AND price > 0))::VARCHAR || '/'
               || count(*) FILTER (event_type = 'view' AND price > 0) AS average_price_viewed,
               (sum(price) FILTER (event_type = 'purchase'))::VARCHAR || '/'
               || count(*) FILTER (event_type = 'purchase') AS average_price_paid
        FROM events GROUP BY ALL
    )
    SELECT sums.*, coalesce(viewing_sessions, 0) AS viewing_sessions,
           coalesce(converted_sessions, 0) AS converted_sessions,
           converted_sessions::DOUBLE / viewing_sessions AS conversion_rate
    FROM sums LEFT JOIN sessions
    ON sessions.event_date = sums.event_date AND sessions.what IS NOT DISTINCT FROM sums.what"""
"""What the events say of each product or brand, named `what`, on each day."""

AVERAGE_DECIMALS = 6
RATIO_TOLERANCE = 1e-9
"""Relative; shares and ratios are FLOAT64."""
MAX_DIFFERENCES = 20
COUNTS = ("read", "accepted", "rejected", "distinct", "duplicates", "late")


@functools.cache
def tables() -> dict[str, Table]:
    """Return the tables and views of dataset shop, which say of each column what it is, by name."""
    return {table.name: table for table in all_tables(ROOT / "sql") if table.dataset == "shop"}


@functools.cache
def types() -> dict[str, str]:
    """Return the type of each column of `tables` and of `landing_counts`; of one name it is the same."""
    columns = {column.name: column.type for table in tables().values() for column in table.schema}
    return columns | dict.fromkeys(COUNTS, "INT64") | {"landing_day": "DATE"}


@functools.cache
def keys() -> frozenset[str]:
    """Return the columns that say which row it is; the others are what is measured."""
    return frozenset({"landing_day"}.union(*(table.metadata.grain for table in tables().values())))


def reference_summaries(csv_paths: Iterable[Path]) -> dict[str, pd.DataFrame]:
    """Return each summary, and each view of summaries, of the files' events (.csv, .csv.gz, .zip).

    Each event counts once; rows are sorted by their keys.

    A file is of one landing day if its folder's name is a day or its own name begins with one, as in
    `2019-11-01/events.csv` and `2019-11-01-events.csv`; then the contract's rules on lateness hold for it.
    Any other file is an export: each line lands on its own day.

    The frames' columns are those of the tables: dates as datetime.date, sums and averages of prices as
    Decimal, shares and ratios as float with NaN for NULL. A summary that looks back is there for each day
    from the first event to the last.
    """
    with _events(csv_paths) as database:
        return _summaries(database)


def landing_counts(csv_paths: Iterable[Path]) -> pd.DataFrame:
    """Return read, accepted, rejected, distinct, duplicates and late of each landing_day (datetime.date).

    The landing days of the files are those of `reference_summaries`.
    """
    with _events(csv_paths) as database:
        return _landing_counts(database)


def compare(expected: pd.DataFrame, actual: pd.DataFrame) -> list[str]:
    """Return the differences between two frames of one table, as sentences; none if they say the same.

    The order of rows does not matter. Integers, sums and averages are compared exactly, shares and ratios to
    RATIO_TOLERANCE. Values may be typed or, as in a CSV file, text with NULL as "".
    """
    if set(expected.columns) != set(actual.columns):
        return [f"columns are {', '.join(actual.columns)}; expected {', '.join(expected.columns)}"]
    key_columns = [column for column in expected.columns if column in keys()]
    measures = [column for column in expected.columns if column not in key_columns]
    wanted, found = (_rows_by_key(frame, key_columns, measures) for frame in (expected, actual))
    differences = []
    if len(found) < len(actual):
        differences.append(
            f"{len(actual) - len(found)} rows repeat the key ({', '.join(key_columns)}) of another row"
        )
    differences += [f"{_named(key_columns, key)} is missing" for key in wanted if key not in found]
    differences += [f"{_named(key_columns, key)} is not expected" for key in found if key not in wanted]
    for key in wanted.keys() & found.keys():
        differences += [
            f"{_named(key_columns, key)}: {measure} is {found[key][measure]}; expected {wanted[key][measure]}"
            for measure in measures
            if not _same(measure, wanted[key][measure], found[key][measure])
        ]
    return sorted(differences)


def landing_day_of(path: Path) -> date | None:
    """Return the landing day that a path names, or None for an export."""
    for text in (path.parent.name, path.name[:10]):
        if DAY.fullmatch(text):
            return date.fromisoformat(text)
    return None


# --- the computation ---


def _summaries(database: duckdb.DuckDBPyConnection) -> dict[str, pd.DataFrame]:
    for column in ("product_id", "brand"):
        database.execute(PERFORMANCE.format(column=column))
    database.execute(WHOLE_SESSIONS)
    frames = {name: database.sql(query).df() for name, query in (SUMMARIES | VIEWS).items()}
    for frame in frames.values():
        for column in frame.columns:
            if types()[column] == "NUMERIC":
                amounts = [None if pd.isna(text) else _amount(text) for text in frame[column]]
                frame[column] = pd.Series(amounts, dtype=object)
            elif types()[column] == "FLOAT64" and not pd.api.types.is_float_dtype(frame[column]):
                frame[column] = [
                    math.nan if pd.isna(text) else float(_quotient(text)) for text in frame[column]
                ]
    return {
        name: _with_dates(frame).sort_values(list(tables()[name].metadata.grain), ignore_index=True)
        for name, frame in frames.items()
    }


def _amount(text: str) -> Decimal:
    """Return an amount, or the average of a sum and a count such as "12.5/3".

    That is rounded once, to 6 decimals; halves go up.
    """
    if "/" not in text:
        return Decimal(text)
    units = math.floor(_quotient(text) * 10**AVERAGE_DECIMALS + Fraction(1, 2))
    return Decimal(units).scaleb(-AVERAGE_DECIMALS)


def _quotient(text: str) -> Fraction:
    dividend, divisor = text.split("/")
    return Fraction(dividend) / Fraction(divisor)


def _landing_counts(database: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    frame = database.sql("""
        WITH lines AS (
            SELECT landing_day, event_time, 1 AS accepted, 0 AS rejected, 0 AS "distinct" FROM accepted
            UNION ALL SELECT landing_day, NULL, 0, 1, 0 FROM rejected
            UNION ALL SELECT landing_day, NULL, 0, 0, 1 FROM (SELECT DISTINCT * FROM accepted)
        )
        SELECT landing_day, sum(accepted + rejected) AS "read", sum(accepted) AS accepted,
               sum(rejected) AS rejected, sum("distinct") AS "distinct",
               sum(accepted) - sum("distinct") AS duplicates,
               count(*) FILTER (WHERE event_time::DATE < landing_day) AS late
        FROM lines GROUP BY landing_day ORDER BY landing_day""").df()
    return _with_dates(frame).astype(dict.fromkeys(COUNTS, "int64"))


def _with_dates(frame: pd.DataFrame) -> pd.DataFrame:
    dates = [column for column in frame.columns if types()[column] == "DATE"]
    return frame.assign(**{column: pd.to_datetime(frame[column]).dt.date.astype(object) for column in dates})


# --- the contract, once more ---


@contextmanager
def _events(csv_paths: Iterable[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database: tables accepted and rejected, one row a line; the view events, each event once."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as database:
        accepted, rejected = Path(folder, "accepted.csv"), Path(folder, "rejected.csv")
        with accepted.open("w", newline="") as good, rejected.open("w", newline="") as bad:
            write_good, write_bad = csv.writer(good).writerow, csv.writer(bad).writerow
            for path in csv_paths:
                for day, fields in _judged_lines(path):
                    if fields is None:
                        write_bad([day])
                    else:
                        write_good([day, *fields])
        database.execute("SET enable_progress_bar = false")
        columns = ", ".join(f"'{name}': 'VARCHAR'" for name in ("landing_day", *COLUMNS))
        database.execute(f"""
            CREATE TABLE accepted AS
            SELECT landing_day::DATE AS landing_day, event_time::TIMESTAMP AS event_time,
                   event_type, product_id::BIGINT AS product_id, category_id::BIGINT AS category_id,
                   category_code, brand, price::DECIMAL(38, 9) AS price, user_id::BIGINT AS user_id,
                   user_session
            FROM read_csv('{accepted}', header = false, auto_detect = false, delim = ',', quote = '"',
                          escape = '"', nullstr = '', columns = {{{columns}}});
            CREATE TABLE rejected AS
            SELECT landing_day::DATE AS landing_day
            FROM read_csv('{rejected}', header = false, auto_detect = false,
                          columns = {{'landing_day': 'VARCHAR'}});
            CREATE VIEW events AS
            SELECT *, event_time::DATE AS event_date, string_split(category_code, '.')[2] AS subcategory
            FROM (SELECT DISTINCT * EXCLUDE (landing_day) FROM accepted);
            CREATE VIEW days AS
            SELECT unnest(range(min(event_date), max(event_date) + 1, INTERVAL 1 DAY))::DATE AS day
            FROM events""")
        yield database


def _judged_lines(path: Path) -> Iterator[tuple[date, list[str] | None]]:
    """Yield the landing day of each line that is not blank, and its nine fields, None if it is rejected."""
    file_day = landing_day_of(path)
    columns: tuple[str, ...] = COLUMNS
    day = file_day
    before_first_day = 0
    with _opened(path) as lines:
        for number, line in enumerate(lines):
            raw = line.removesuffix(b"\n")
            if len(raw) <= MAX_LINE_BYTES:
                raw = raw.removesuffix(b"\r")
            if number == 0:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                names = tuple(name.strip() for name in raw.decode(errors="replace").split(","))
                if set(names) == set(COLUMNS):
                    columns = names
                    continue
            if not raw:
                continue
            fields = _fields(raw)
            if file_day is None:
                # An export's line whose day cannot be read lands with the line before it.
                is_row = fields is not None and len(fields) == len(columns)
                own = _day_in(fields[columns.index("event_time")]) if fields and is_row else None
                day = own or day
            if day is None:
                before_first_day += 1
                continue
            for _ in range(before_first_day):
                yield day, None
            before_first_day = 0
            if fields is None or len(fields) != len(columns):
                yield day, None
                continue
            event = _valid(dict(zip(columns, fields, strict=True)), day)
            yield day, [event[name] for name in COLUMNS] if event else None


def _fields(raw: bytes) -> list[str] | None:
    if len(raw) > MAX_LINE_BYTES:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    if CONTROL.search(text):
        return None
    if '"' not in text:
        return text.split(",")
    # Python's reader lets a quote pass inside a plain field, and one that is not closed.
    return next(csv.reader([text])) if QUOTED_LINE.fullmatch(text) else None


def _valid(event: dict[str, str], landing_day: date) -> dict[str, str] | None:
    """Return the values that an event's fields mean, as text; None if it is none of the landing day."""
    valid = dict(event)
    for name, most in MAX_CHARS.items():
        text = event[name].strip()
        if name != "user_session":
            text = text.lower()
        is_nothing = text.lower() in NOTHING or (text.lower() == "nan" and name != "brand")
        valid[name] = "" if is_nothing else text
        if len(valid[name]) > most:
            return None
    if event["event_type"] not in ("view", "cart", "purchase"):
        return None
    for name in ("product_id", "category_id", "user_id"):
        number = INTEGER.fullmatch(event[name])
        if not number or int(number[1]) > (MAX_FLOAT_INTEGER if number[2] else 2**63 - 1):
            return None
        valid[name] = number[1]
    if not PRICE.fullmatch(event["price"]):
        return None
    levels = valid["category_code"].split(".") if valid["category_code"] else ["-"]
    if len(levels) > 4 or "" in levels:
        return None
    time = _time(event["event_time"])
    if time is None or not landing_day - LATENESS <= time.date() <= landing_day:
        return None
    return {**valid, "event_time": time.isoformat(" ")}


def _time(text: str) -> datetime | None:
    """Return the time in UTC that a text with a zone is, without a zone."""
    found = TIME.fullmatch(text)
    if not found:
        return None
    day, clock, sign, hours, minutes = found.groups()
    whole, _, fraction = clock.partition(".")
    if fraction[6:].strip("0") or int(minutes or 0) > 59:
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    if not timedelta(hours=-12) <= offset <= timedelta(hours=14):
        return None
    try:
        local = datetime.strptime(f"{day} {whole}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        return local.replace(microsecond=int(fraction[:6].ljust(6, "0"))) - offset
    except (ValueError, OverflowError):
        return None


def _day_in(text: str) -> date | None:
    time = _time(text)
    try:
        day = time.date() if time else date.fromisoformat(text[:10])
    except ValueError:
        return None
    is_day = time is not None or (DAY.fullmatch(text[:10]) and text[10:11] in (" ", "T"))
    return day if is_day and 2000 <= day.year < 2100 else None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".csv"))
            with archive.open(name) as lines:
                yield lines
    elif path.suffix == ".gz":
        with gzip.open(path) as lines:
            yield lines
    else:
        with path.open("rb") as lines:
            yield lines


# --- comparing ---


def _rows_by_key(
    frame: pd.DataFrame, keys: list[str], measures: list[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = frame.to_dict("records")
    return {
        tuple(_plain(key, row[key]) for key in keys): {name: _plain(name, row[name]) for name in measures}
        for row in rows
    }


def _plain(column: str, value: Any) -> Any:
    """Return a typed or written value as int, Decimal, float, text, or None for NULL."""
    if value is None or value is pd.NA or value == "" or value != value:
        return None
    match types()[column]:
        case "INT64":
            return int(Decimal(str(value)))
        case "NUMERIC":
            return Decimal(str(value))
        case "FLOAT64":
            return float(value)
        case "TIMESTAMP":  # in UTC, with or without saying so
            return pd.Timestamp(value).tz_localize(None)
        case "DATE":
            return str(value)[:10]
    return str(value)


def _same(measure: str, wanted: Any, found: Any) -> bool:
    if wanted is None or found is None:
        return wanted is found
    if isinstance(wanted, float):
        return math.isclose(wanted, found, rel_tol=RATIO_TOLERANCE)
    return bool(wanted == found)


def _named(keys: list[str], key: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))


# --- the command line ---


def _counts_of_demo(result: Path) -> pd.DataFrame:
    """Return landing_counts' columns from a demo's result.json; distinct is what both stores hold."""
    days = json.loads(result.read_text())["days"]
    rows = []
    for day in days:
        stored = {day["spanner_rows"], day["bigquery_rows"]}
        distinct = stored.pop() if len(stored) == 1 else -1
        rows.append({**day, "distinct": distinct})
    return pd.DataFrame(rows, columns=["landing_day", *COUNTS])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.reference",
        description="Compute the summaries straight from CSV files and compare them with what a demo wrote.",
    )
    parser.add_argument("--csv", type=Path, nargs="+", required=True, help="the landed files, or one export")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        help="the demo's directory: <table>.csv and, if there, result.json",
    )
    arguments = parser.parse_args(argv)

    with _events(arguments.csv) as database:
        expected_tables, expected_days = _summaries(database), _landing_counts(database)
    pairs = {
        name: (frame, pd.read_csv(arguments.against / f"{name}.csv", dtype=str, keep_default_na=False))
        for name, frame in expected_tables.items()
        if name in SUMMARIES  # a demo writes no views
    }
    if (result := arguments.against / "result.json").exists():
        pairs["days of result.json"] = (expected_days, _counts_of_demo(result))
    differs = False
    for name, (expected, actual) in pairs.items():
        differences = compare(expected, actual)
        differs |= bool(differences)
        verdict = f"{len(differences):,} DIFFERENCES" if differences else "equal"
        print(f"{name:28} {len(expected):7,} rows expected, {len(actual):7,} found: {verdict}")
        for difference in differences[:MAX_DIFFERENCES]:
            print(f"    {difference}")
        if len(differences) > MAX_DIFFERENCES:
            print(f"    and {len(differences) - MAX_DIFFERENCES:,} more")
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
