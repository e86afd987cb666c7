SELECT
    event_date,
    table_name,
    check_name,
    severity,
    found_rows,
    finding,
    checked_at
FROM shop_ops.check_results
WHERE event_date BETWEEN @first_day AND @last_day AND found_rows > 0
ORDER BY severity ASC, event_date DESC, table_name ASC, check_name ASC
LIMIT 200
