SELECT
    event_hour,
    event_type,
    SUM(events) AS events,
    SUM(price_sum) AS price_sum
FROM shop.hourly_price_by_event_type
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY event_hour, event_type
ORDER BY event_hour, event_type
