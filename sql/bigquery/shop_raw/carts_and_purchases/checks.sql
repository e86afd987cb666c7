-- check: every_event_there, severity: fail
WITH compared AS (
    SELECT
        (
            SELECT COUNT(*)
            FROM shop_raw.events_deduplicated
            WHERE event_date = @day AND event_type != 'view'
        ) AS expected_events,
        (
            SELECT COUNT(*)
            FROM shop_raw.carts_and_purchases
            WHERE event_date = @day
        ) AS found_events
)

SELECT
    expected_events,
    found_events
FROM compared
WHERE expected_events != found_events;
