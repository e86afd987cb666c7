-- check: accepted_event_types, severity: fail
SELECT
    event_type,
    COUNT(*) AS found_rows
FROM shop.daily_event_count
WHERE
    event_date = @day
    AND event_type NOT IN ('view', 'cart', 'purchase')
GROUP BY event_type;

-- check: possible_counts, severity: fail
-- A row stands for at least one event; neither customers nor sessions can outnumber the events.
SELECT
    event_type,
    events,
    users,
    sessions
FROM shop.daily_event_count
WHERE
    event_date = @day
    AND (events < 1 OR users < 1 OR users > events OR sessions < 0 OR sessions > events);

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
            FROM shop.daily_event_count
            WHERE event_date = @day
        ) AS found_events
)

SELECT
    expected_events,
    found_events
FROM compared
WHERE expected_events != found_events;

-- check: day_has_every_event_type, severity: warn
-- A shop sells every day: a day without a single purchase is more likely a gap in the tracking.
SELECT COUNT(*) AS found_event_types
FROM shop.daily_event_count
WHERE event_date = @day
HAVING COUNT(*) < 3;

-- check: like_the_days_before, severity: warn
-- Fewer than half or more than twice the events of the average of those of the 7 days before that are there.
WITH compared AS (
    SELECT
        SUM(IF(event_date = @day, events, 0)) AS found_events,
        SAFE_DIVIDE(
            SUM(IF(event_date < @day, events, 0)),
            COUNT(DISTINCT IF(event_date < @day, event_date, NULL))
        ) AS average_events_before
    FROM shop.daily_event_count
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 7 DAY) AND @day
)

SELECT
    found_events,
    average_events_before
FROM compared
WHERE found_events < average_events_before / 2 OR found_events > average_events_before * 2;
