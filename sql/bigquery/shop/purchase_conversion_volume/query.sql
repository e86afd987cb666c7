SELECT
    event_date,
    EXTRACT(DAYOFWEEK FROM event_date) AS weekday,
    FORMAT_DATE('%A', event_date) AS weekday_name,
    event_type,
    COUNT(*) AS events
FROM shop_raw.events_deduplicated
WHERE event_date = @day
GROUP BY event_date, weekday, weekday_name, event_type
