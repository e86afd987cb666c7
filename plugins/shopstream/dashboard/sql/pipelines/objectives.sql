WITH newest AS (
    SELECT MAX(event_date) AS event_date
    FROM shop_ops.objectives
    WHERE event_date BETWEEN @first_day AND @last_day
)

SELECT
    event_date,
    objective,
    promised_share,
    good,
    total,
    budget_left AS share_of_budget_left
FROM shop_ops.objectives
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND event_date = (SELECT newest.event_date FROM newest)
ORDER BY objective
LIMIT 20
