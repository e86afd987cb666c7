-- check: accepted_event_types, severity: fail
SELECT
    event_type,
    COUNT(*) AS found_rows
FROM shop.purchase_conversion_volume
WHERE
    event_date = @day
    AND event_type NOT IN ('view', 'cart', 'purchase')
GROUP BY event_type;

-- check: right_weekday, severity: fail
SELECT
    event_type,
    weekday,
    weekday_name
FROM shop.purchase_conversion_volume
WHERE
    event_date = @day
    AND (weekday != EXTRACT(DAYOFWEEK FROM @day) OR weekday_name != FORMAT_DATE('%A', @day));

-- check: every_event_counted, severity: fail
WITH compared AS (
    SELECT
        (
            SELECT COUNT(*)
            FROM shop_raw.events_deduplicated
            WHERE event_date = @day
        ) AS expected_events,
        (
            SELECT COALESCE(SUM(events), 0)
            FROM shop.purchase_conversion_volume
            WHERE event_date = @day
        ) AS found_events
)

SELECT
    expected_events,
    found_events
FROM compared
WHERE expected_events != found_events;

-- check: fewer_purchases_than_views, severity: warn
-- As many purchases as views or more: views are missing.
WITH compared AS (
    SELECT
        SUM(IF(event_type = 'view', events, 0)) AS found_views,
        SUM(IF(event_type = 'purchase', events, 0)) AS found_purchases
    FROM shop.purchase_conversion_volume
    WHERE event_date = @day
)

SELECT
    found_views,
    found_purchases
FROM compared
WHERE found_purchases > found_views;
