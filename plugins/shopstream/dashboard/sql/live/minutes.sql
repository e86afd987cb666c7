SELECT
    minute,
    event_type,
    events,
    users,
    revenue
FROM shop.live_events_by_minute
ORDER BY minute, event_type
