SELECT
    checked_at,
    desired,
    level,
    decision,
    reason,
    outcome,
    oldest_unacked_seconds,
    newest_row_seconds,
    rejected_share
FROM shop_ops.stream_checks
WHERE checked_date BETWEEN @first_day AND @last_day
ORDER BY checked_at DESC
LIMIT 1000
