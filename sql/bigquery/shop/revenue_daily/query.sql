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
        ROUND(SAFE_DIVIDE(SUM(revenue), COUNTIF(purchases > 0)), 6) AS average_order_value
    FROM customers_in_sessions
    GROUP BY event_date
)

SELECT
    today.event_date,
    today.orders,
    today.buyers,
    today.purchases,
    today.revenue,
    -- A millionth less where a quotient a little below a half of its 6th decimal became that half, of the 9
    -- decimals that NUMERIC keeps, and went up.
    today.average_order_value - IF(
        (today.average_order_value * today.orders - today.revenue) * 2000000 > today.orders,
        NUMERIC '1' / 1000000,
        0
    ) AS average_order_value,
    week_before.orders AS orders_week_before,
    week_before.buyers AS buyers_week_before,
    week_before.revenue AS revenue_week_before,
    week_before.average_order_value - IF(
        (week_before.average_order_value * week_before.orders - week_before.revenue) * 2000000
        > week_before.orders,
        NUMERIC '1' / 1000000,
        0
    ) AS average_order_value_week_before,
    -- Subtracted first, as NUMERIC: a small change would be lost beside 1.
    SAFE_DIVIDE(
        CAST(today.revenue - week_before.revenue AS FLOAT64),
        CAST(week_before.revenue AS FLOAT64)
    ) AS revenue_change
FROM days AS today
LEFT JOIN days AS week_before
    ON week_before.event_date = DATE_SUB(@day, INTERVAL 7 DAY)
WHERE today.event_date = @day
