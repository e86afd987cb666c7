SELECT
    weekday,
    weekday_name,
    event_type,
    SUM(events) AS events,
    COUNT(DISTINCT event_date) AS days
FROM shop.purchase_conversion_volume
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY weekday, weekday_name, event_type
ORDER BY weekday, event_type
