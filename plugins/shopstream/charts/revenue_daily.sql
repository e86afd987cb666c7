SELECT
    event_date,
    orders,
    buyers,
    purchases,
    revenue
FROM shop.revenue_daily
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY event_date
