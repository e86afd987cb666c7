SELECT
    event_date,
    event_type,
    COUNT(*) AS events,
    COUNT(DISTINCT user_id) AS users,
    COUNT(DISTINCT session_key) AS sessions
FROM shop_raw.events_deduplicated
WHERE event_date = @day
GROUP BY event_date, event_type
