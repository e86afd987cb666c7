-- What the pipelines wrote of one day, in one row.
WITH loaded AS (
    SELECT
        `read` AS lines_read,
        accepted,
        rejected,
        late
    FROM shop_ops.loads
    WHERE landing_day = @day
    ORDER BY loaded_at DESC
    LIMIT 1
),

streamed AS (
    SELECT
        SUM(batch_events) AS batch_events,
        SUM(only_in_batch) AS only_in_batch
    FROM shop_ops.stream_completeness
    WHERE event_date = @day AND level != 'absent'
),

looked AS (
    SELECT
        COUNT(*) AS looks,
        COUNTIF(level != 'ok') AS bad_looks
    FROM shop_ops.stream_checks
    WHERE checked_date = @day
),

checked AS (
    SELECT
        COUNT(*) AS checks,
        COUNTIF(found_rows > 0 AND severity = 'fail') AS failed_checks,
        COUNTIF(found_rows > 0 AND severity = 'warn') AS warned_checks
    FROM shop_ops.check_results
    WHERE event_date = @day
),

found AS (
    SELECT
        COUNT(*) AS findings,
        ARRAY_TO_STRING(ARRAY_AGG(DISTINCT figure ORDER BY figure), ', ') AS figures
    FROM shop_ops.figure_findings
    WHERE event_date = @day
),

promised AS (
    SELECT
        ARRAY_TO_STRING(
            ARRAY_AGG(
                CONCAT(
                    REPLACE(objective, '_', ' '),
                    CASE
                        WHEN budget_left IS NULL THEN ' nothing yet'
                        WHEN budget_left < 0 THEN ' broken'
                        ELSE CONCAT(' ', CAST(CAST(ROUND(100 * budget_left) AS INT64) AS STRING), ' %')
                    END
                )
                ORDER BY objective
            ),
            ', '
        ) AS budgets
    FROM shop_ops.objectives
    WHERE event_date = @day
)

SELECT
    loaded.lines_read,
    loaded.accepted,
    loaded.rejected,
    loaded.late,
    streamed.batch_events,
    streamed.only_in_batch,
    looked.looks,
    looked.bad_looks,
    checked.checks,
    checked.failed_checks,
    checked.warned_checks,
    found.findings,
    found.figures,
    promised.budgets
FROM looked
CROSS JOIN checked
CROSS JOIN streamed
CROSS JOIN found
CROSS JOIN promised
LEFT JOIN loaded ON TRUE
