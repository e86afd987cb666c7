SELECT
    event_date,
    EXTRACT(HOUR FROM event_time) AS event_hour,
    event_type,
    COUNT(*) AS events,
    SUM(price) AS price_sum,
    ROUND(SUM(price) / COUNT(*), 6) AS price_average
FROM shop.events
WHERE event_date = @day
GROUP BY event_date, event_hour, event_type
