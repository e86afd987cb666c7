WITH first_loads AS (
    SELECT
        landing_day,
        MIN(loaded_at) AS loaded_at
    FROM shop_ops.loads
    WHERE landing_day BETWEEN DATE_SUB(@day, INTERVAL 29 DAY) AND @day
    GROUP BY landing_day
),

fresh AS (
    SELECT
        COUNTIF(
            loaded_at <= TIMESTAMP_ADD(TIMESTAMP(DATE_ADD(landing_day, INTERVAL 1 DAY)), INTERVAL 6 HOUR)
        ) AS good,
        COALESCE(DATE_DIFF(@day, MIN(landing_day), DAY) + 1, 0) AS total
    FROM first_loads
),

last_loads AS (
    SELECT
        `read` AS lines_read,
        accepted
    FROM shop_ops.loads
    WHERE landing_day BETWEEN DATE_SUB(@day, INTERVAL 29 DAY) AND @day
    QUALIFY ROW_NUMBER() OVER (PARTITION BY landing_day ORDER BY loaded_at DESC) = 1
),

counted AS (
    SELECT
        'fresh_days' AS objective,
        good,
        total,
        0.95 AS promised_share
    FROM fresh
    UNION ALL
    SELECT
        'streamed_events' AS objective,
        COALESCE(SUM(batch_events - only_in_batch), 0) AS good,
        COALESCE(SUM(batch_events), 0) AS total,
        0.999 AS promised_share
    FROM shop_ops.stream_completeness
    WHERE
        event_date BETWEEN DATE_SUB(@day, INTERVAL 29 DAY) AND @day
        AND level != 'absent'
    UNION ALL
    SELECT
        'accepted_lines' AS objective,
        COALESCE(SUM(accepted), 0) AS good,
        COALESCE(SUM(lines_read), 0) AS total,
        0.99 AS promised_share
    FROM last_loads
    UNION ALL
    SELECT
        'passed_checks' AS objective,
        COUNTIF(found_rows = 0) AS good,
        COUNT(*) AS total,
        0.99 AS promised_share
    FROM shop_ops.check_results
    WHERE
        event_date BETWEEN DATE_SUB(@day, INTERVAL 29 DAY) AND @day
        AND severity = 'fail'
)

SELECT
    @day AS event_date,
    objective,
    good,
    total,
    promised_share,
    1 - SAFE_DIVIDE(total - good, (1 - promised_share) * total) AS budget_left
FROM counted
