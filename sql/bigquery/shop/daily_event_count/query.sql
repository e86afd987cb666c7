SELECT
    event_date,
    event_type,
    COUNT(*) AS events,
    COUNT(DISTINCT user_id) AS users,
    COUNT(DISTINCT user_session) AS sessions
FROM shop.events
WHERE event_date = @day
GROUP BY event_date, event_type
