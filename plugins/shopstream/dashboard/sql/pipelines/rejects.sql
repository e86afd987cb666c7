SELECT
    source,
    reason,
    SUM(COALESCE(lines, 1)) AS lines_rejected,
    MIN(rejected_date) AS first_rejected,
    MAX(rejected_date) AS last_rejected,
    MAX(detail) AS for_instance
FROM shop.rejected_events
WHERE rejected_date BETWEEN @first_day AND @last_day
GROUP BY source, reason
ORDER BY lines_rejected DESC, source ASC, reason ASC
LIMIT 100
