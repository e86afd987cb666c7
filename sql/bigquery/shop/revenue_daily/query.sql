WITH known AS (
    SELECT DISTINCT event_date
    FROM shop.daily_event_count
    WHERE event_date IN (@day, DATE_SUB(@day, INTERVAL 7 DAY))
),

customers AS (
    SELECT
        event_date,
        orders,
        purchases,
        revenue
    FROM shop.customer_purchases
    WHERE event_date IN (@day, DATE_SUB(@day, INTERVAL 7 DAY))
),

days AS (
    SELECT
        known.event_date,
        COALESCE(SUM(customers.orders), 0) AS orders,
        COUNT(customers.event_date) AS buyers,
        COALESCE(SUM(customers.purchases), 0) AS purchases,
        COALESCE(SUM(customers.revenue), 0) AS revenue,
        ROUND(SAFE_DIVIDE(SUM(customers.revenue), SUM(customers.orders)), 6) AS average_order_value
    FROM known
    LEFT JOIN customers ON known.event_date = customers.event_date
    GROUP BY known.event_date
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
