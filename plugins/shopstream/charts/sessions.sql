SELECT
    CASE
        WHEN seconds = 0 THEN 1
        WHEN seconds < 60 THEN 2
        WHEN seconds < 5 * 60 THEN 3
        WHEN seconds < 15 * 60 THEN 4
        WHEN seconds < 60 * 60 THEN 5
        ELSE 6
    END AS length_number,
    CASE
        WHEN seconds = 0 THEN 'a moment'
        WHEN seconds < 60 THEN 'under 1 min'
        WHEN seconds < 5 * 60 THEN '1 to 5 min'
        WHEN seconds < 15 * 60 THEN '5 to 15 min'
        WHEN seconds < 60 * 60 THEN '15 to 60 min'
        ELSE 'an hour or more'
    END AS length,
    COUNT(*) AS sessions,
    COUNTIF(purchases > 0) AS purchasing_sessions,
    SUM(revenue) AS revenue,
    SUM(events) AS events,
    COUNTIF(is_returning_customer) AS of_returning_customers
FROM shop.sessions
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR landing_subcategory = @subcategory)
GROUP BY length_number, length
ORDER BY length_number
