-- check: accepted_event_types, severity: fail
SELECT
    event_type,
    COUNT(*) AS found_rows
FROM shop.hourly_price_by_event_type
WHERE
    event_date = @day
    AND event_type NOT IN ('view', 'cart', 'purchase')
GROUP BY event_type;

-- check: possible_values, severity: fail
SELECT
    event_hour,
    event_type,
    events,
    price_sum,
    price_average
FROM shop.hourly_price_by_event_type
WHERE
    event_date = @day
    AND (
        event_hour NOT BETWEEN 0 AND 23
        OR events < 1
        OR price_sum < 0
        OR ABS(price_average * events - price_sum) * 2000000 > events
    );

-- check: every_price_summed, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_events,
        COALESCE(SUM(price), 0) AS expected_price_sum
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
),

found AS (
    SELECT
        COALESCE(SUM(events), 0) AS found_events,
        COALESCE(SUM(price_sum), 0) AS found_price_sum
    FROM shop.hourly_price_by_event_type
    WHERE event_date = @day
)

SELECT
    expected.expected_events,
    found.found_events,
    expected.expected_price_sum,
    found.found_price_sum
FROM expected
CROSS JOIN found
WHERE
    expected.expected_events != found.found_events
    OR expected.expected_price_sum != found.found_price_sum;

-- check: every_hour_viewed, severity: warn
-- The shop is visited around the clock; a missing hour is more likely a gap in the tracking.
SELECT COUNT(DISTINCT event_hour) AS found_hours
FROM shop.hourly_price_by_event_type
WHERE event_date = @day AND event_type = 'view'
HAVING COUNT(DISTINCT event_hour) < 24;
