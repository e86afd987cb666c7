WITH customers AS (
    SELECT
        user_id,
        SUM(orders) AS orders,
        SUM(revenue) AS revenue
    FROM shop.customer_purchases
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY user_id
)

SELECT
    IF(orders < 5, CAST(orders AS STRING), '5 or more') AS orders_each,
    COUNT(*) AS customers,
    SUM(revenue) AS revenue
FROM customers
GROUP BY orders_each
ORDER BY orders_each
