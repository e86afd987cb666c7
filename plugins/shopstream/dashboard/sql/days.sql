SELECT
    event_date,
    is_provisional,
    published_at
FROM shop.days
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY event_date DESC
LIMIT 1100
