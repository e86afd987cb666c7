-- check: possible_values, severity: fail
SELECT
    started_at,
    seconds,
    events,
    views,
    carts,
    purchases,
    products,
    carted_products,
    abandoned_products,
    revenue,
    cart_value,
    abandoned_value,
    steps
FROM shop.sessions
WHERE
    event_date = @day
    AND (
        DATE(started_at) != event_date
        OR seconds NOT BETWEEN 0 AND 36 * 3600
        OR events != views + carts + purchases
        OR events_after_midnight NOT BETWEEN 0 AND events - 1
        OR products NOT BETWEEN 1 AND events
        OR steps NOT BETWEEN 1 AND events
        OR carted_products NOT BETWEEN IF(carts > 0, 1, 0) AND carts
        OR abandoned_products NOT BETWEEN 0 AND carted_products
        OR revenue < 0
        OR abandoned_value NOT BETWEEN 0 AND cart_value
    );

-- check: funnel_fits_the_events, severity: fail
SELECT
    funnel,
    views,
    carts,
    purchases
FROM shop.sessions
WHERE
    event_date = @day
    AND funnel != CASE
        WHEN purchases = 0 AND views = 0 THEN 'cart'
        WHEN purchases = 0 AND carts = 0 THEN 'view'
        WHEN purchases = 0 THEN IF(funnel = 'view', 'view', 'view_cart')
        WHEN views = 0 THEN 'purchase_without_view'
        WHEN carts = 0 THEN IF(funnel = 'purchase_before_view', 'purchase_before_view', 'view_purchase')
        WHEN funnel IN ('view_purchase', 'cart_view_purchase', 'purchase_before_view') THEN funnel
        ELSE 'view_cart_purchase'
    END;

-- check: every_event_counted, severity: fail
WITH sides AS (
    SELECT
        session_key,
        COUNTIF(event_date < @day AND EXTRACT(HOUR FROM event_time) >= 12) AS afternoon_before,
        COUNTIF(event_date = @day AND EXTRACT(HOUR FROM event_time) < 12) AS morning,
        COUNTIF(event_date = @day AND EXTRACT(HOUR FROM event_time) >= 12) AS afternoon,
        COUNTIF(event_date > @day AND EXTRACT(HOUR FROM event_time) < 12) AS morning_after
    FROM shop_raw.events_deduplicated
    WHERE
        event_date BETWEEN DATE_SUB(@day, INTERVAL 1 DAY) AND DATE_ADD(@day, INTERVAL 1 DAY)
        AND session_key IS NOT NULL
    GROUP BY session_key
),

expected AS (
    SELECT
        COALESCE(
            SUM(IF(afternoon_before = 0, morning, 0) + afternoon + IF(afternoon > 0, morning_after, 0)), 0
        ) AS expected_events
    FROM sides
),

found AS (
    SELECT COALESCE(SUM(events), 0) AS found_events
    FROM shop.sessions
    WHERE event_date = @day
)

SELECT
    expected.expected_events,
    found.found_events
FROM expected
CROSS JOIN found
WHERE expected.expected_events != found.found_events;

-- check: few_events_past_midnight, severity: warn
-- Most events of a day's sessions past its midnight: the times are of another zone, or sessions do not end.
SELECT
    SUM(events) AS found_events,
    SUM(events_after_midnight) AS found_events_after_midnight
FROM shop.sessions
WHERE event_date = @day
HAVING SUM(events_after_midnight) * 2 > SUM(events);
