-- check: possible_values, severity: fail
SELECT
    cohort_week,
    weeks_since,
    customers,
    active_customers,
    retention_rate,
    revenue
FROM shop.customer_retention
WHERE
    event_date = @day
    AND (
        EXTRACT(DAYOFWEEK FROM cohort_week) != 2
        OR weeks_since NOT BETWEEN 0 AND 12
        OR customers < 1
        OR active_customers NOT BETWEEN 0 AND customers
        OR retention_rate NOT BETWEEN 0 AND 1
        OR (weeks_since = 0 AND active_customers != customers)
        OR (active_customers = 0 AND revenue != 0)
        OR revenue < 0
    );

-- check: no_more_active_customers_than_buyers, severity: fail
-- Fewer there may be: a customer who never paused is of a cohort more than 12 weeks old.
WITH compared AS (
    SELECT
        (
            SELECT COUNT(DISTINCT user_id)
            FROM shop.customer_purchases
            WHERE
                event_date BETWEEN DATE_SUB(@day, INTERVAL 6 DAY) AND @day
                AND DATE_DIFF(@day, event_date, DAY) <= MOD(EXTRACT(DAYOFWEEK FROM @day) + 5, 7)
        ) AS buyers_of_the_week,
        (
            SELECT COALESCE(SUM(active_customers), 0)
            FROM shop.customer_retention
            WHERE event_date = @day
        ) AS found_active_customers
)

SELECT
    buyers_of_the_week,
    found_active_customers
FROM compared
WHERE found_active_customers > buyers_of_the_week;

-- check: ended_cohorts_keep_their_customers, severity: warn
-- A cohort of an ended week has as many customers as it had the day before, unless one of the two days was
-- not built again after late events.
SELECT
    cohort_week,
    MIN(customers) AS fewest_customers,
    MAX(customers) AS most_customers
FROM shop.customer_retention
WHERE
    event_date BETWEEN DATE_SUB(@day, INTERVAL 1 DAY) AND @day
    AND DATE_DIFF(@day, cohort_week, DAY) >= 7
GROUP BY cohort_week
HAVING MIN(customers) != MAX(customers);
