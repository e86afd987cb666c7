SELECT
    event_date,
    event_type,
    events,
    users,
    sessions
FROM shop.daily_event_count
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY event_date, event_type
