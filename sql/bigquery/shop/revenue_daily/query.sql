-- A customer's purchases in one session are one order.
WITH customers_in_sessions AS (
    SELECT
        event_date,
        user_id,
        user_session,
        COUNTIF(event_type = 'purchase') AS purchases,
        SUM(IF(event_type = 'purchase', price, 0)) AS revenue
    FROM shop.events
    WHERE event_date IN (@day, DATE_SUB(@day, INTERVAL 7 DAY))
    GROUP BY event_date, user_id, user_session
),

days AS (
    SELECT
        event_date,
        COUNTIF(purchases > 0) AS orders,
        COUNT(DISTINCT IF(purchases > 0, user_id, NULL)) AS buyers,
        SUM(purchases) AS purchases,
        SUM(revenue) AS revenue,
        -- Rounded in billionths, to thousands of them: NUMERIC keeps 9 decimals of a quotient, so that one
        -- a little below a half of the 6th would become that half, and go up. The last ROUND is for engines
        -- that divide as FLOAT64.
        ROUND(
            ROUND(SAFE_DIVIDE(SUM(revenue) * 1000000000, COUNTIF(purchases > 0)), -3)
            / NUMERIC '1000000000',
            6
        ) AS average_order_value
    FROM customers_in_sessions
    GROUP BY event_date
)

SELECT
    today.event_date,
    today.orders,
    today.buyers,
    today.purchases,
    today.revenue,
    today.average_order_value,
    week_before.orders AS orders_week_before,
    week_before.buyers AS buyers_week_before,
    week_before.revenue AS revenue_week_before,
    week_before.average_order_value AS average_order_value_week_before,
    -- Subtracted first, as NUMERIC: a small change would be lost beside 1.
    SAFE_DIVIDE(
        CAST(today.revenue - week_before.revenue AS FLOAT64),
        CAST(week_before.revenue AS FLOAT64)
    ) AS revenue_change
FROM days AS today
LEFT JOIN days AS week_before
    ON week_before.event_date = DATE_SUB(@day, INTERVAL 7 DAY)
WHERE today.event_date = @day
