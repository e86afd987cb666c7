SELECT
    landing_day,
    load_id,
    `read`,
    accepted,
    rejected,
    duplicates,
    late,
    spanner_rows,
    bigquery_rows,
    loaded_at,
    approved_by,
    approval_reason
FROM shop_ops.loads
WHERE landing_day BETWEEN @first_day AND @last_day
QUALIFY ROW_NUMBER() OVER (PARTITION BY landing_day ORDER BY loaded_at DESC) = 1
ORDER BY landing_day DESC
LIMIT 400
