SELECT
    event_date,
    COUNT(*) AS checks,
    COUNTIF(found_rows > 0 AND severity = 'fail') AS failed,
    COUNTIF(found_rows > 0 AND severity = 'warn') AS warned
FROM shop_ops.check_results
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY event_date
ORDER BY event_date DESC
LIMIT 400
