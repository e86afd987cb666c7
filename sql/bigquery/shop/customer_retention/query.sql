WITH weeks AS (
    SELECT
        user_id,
        -- The Monday; DAYOFWEEK is 1 on a Sunday.
        DATE_SUB(event_date, INTERVAL MOD(EXTRACT(DAYOFWEEK FROM event_date) + 5, 7) DAY) AS purchase_week,
        SUM(revenue) AS revenue
    FROM shop.customer_purchases
    -- Up to 6 days of this week, the 12 weeks of cohorts before it, and the 12 before the oldest of them.
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 174 DAY) AND @day
    GROUP BY user_id, purchase_week
),

after_pauses AS (
    SELECT
        user_id,
        purchase_week,
        LAG(purchase_week) OVER (PARTITION BY user_id ORDER BY purchase_week) AS purchase_week_before
    FROM weeks
),

cohorts AS (
    SELECT
        user_id,
        purchase_week AS cohort_week
    FROM after_pauses
    WHERE
        -- This week and the 12 before it.
        DATE_DIFF(@day, purchase_week, DAY) < 13 * 7
        AND (
            purchase_week_before IS NULL
            OR DATE_DIFF(purchase_week, purchase_week_before, DAY) > 12 * 7
        )
),

this_week AS (
    SELECT
        user_id,
        revenue
    FROM weeks
    WHERE DATE_DIFF(@day, purchase_week, DAY) < 7
)

SELECT
    @day AS event_date,
    cohorts.cohort_week,
    DIV(DATE_DIFF(@day, cohorts.cohort_week, DAY), 7) AS weeks_since,
    EXTRACT(DAYOFWEEK FROM @day) = 1 AS week_is_complete,
    COUNT(*) AS customers,
    COUNT(this_week.user_id) AS active_customers,
    COUNT(this_week.user_id) / COUNT(*) AS retention_rate,
    COALESCE(SUM(this_week.revenue), 0) AS revenue
FROM cohorts
LEFT JOIN this_week ON cohorts.user_id = this_week.user_id
GROUP BY cohorts.cohort_week
