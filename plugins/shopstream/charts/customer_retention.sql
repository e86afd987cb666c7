SELECT
    cohort_week,
    weeks_since,
    MAX(customers) AS customers,
    MAX(active_customers) AS active_customers,
    MAX(retention_rate) AS retention_rate,
    MAX(revenue) AS revenue,
    LOGICAL_OR(week_is_complete) AS week_is_complete
FROM shop.customer_retention
WHERE
    -- Whatever the range: a cohort is followed for 13 weeks. Days of one week say more and more of it.
    event_date BETWEEN DATE_SUB(@last_day, INTERVAL 90 DAY) AND @last_day
    AND (week_is_complete OR event_date = @last_day)
    AND @first_day <= @last_day
    -- In its own week every customer of a cohort is active.
    AND weeks_since > 0
GROUP BY cohort_week, weeks_since
ORDER BY cohort_week, weeks_since
