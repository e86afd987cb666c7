SELECT
    path,
    SUM(sessions) AS sessions,
    SUM(purchasing_sessions) AS purchasing_sessions,
    SUM(revenue) AS revenue,
    COUNT(*) AS days
FROM shop.session_paths
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY path
ORDER BY sessions DESC, path ASC
LIMIT 200
