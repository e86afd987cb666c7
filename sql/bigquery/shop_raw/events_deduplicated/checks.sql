-- check: every_event_there, severity: fail
-- Counted in the tables themselves, and not by the view that the rows come from.
WITH came AS (
    SELECT event_id
    FROM shop_raw.events_batch
    WHERE event_date = @day
    UNION ALL
    SELECT event_id
    FROM shop_raw.events_stream
    WHERE event_date = @day
),

expected AS (
    SELECT COUNT(DISTINCT event_id) AS expected_events
    FROM came
),

found AS (
    SELECT COUNT(*) AS found_events
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
)

SELECT
    expected.expected_events,
    found.found_events
FROM expected
CROSS JOIN found
WHERE expected.expected_events != found.found_events;
