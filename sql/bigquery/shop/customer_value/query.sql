WITH customers AS (
    SELECT
        user_id,
        MAX(event_date) AS last_purchase_date,
        SUM(orders) AS orders,
        SUM(revenue) AS revenue
    FROM shop.customer_purchases
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 89 DAY) AND @day
    GROUP BY user_id
)

SELECT
    @day AS event_date,
    user_id,
    last_purchase_date,
    DATE_DIFF(@day, last_purchase_date, DAY) AS recency_days,
    orders,
    revenue,
    -- RANK() - 1 customers are strictly worse. NTILE would part customers of equal worth, at random.
    1 + DIV(5 * (RANK() OVER (ORDER BY last_purchase_date) - 1), COUNT(*) OVER ()) AS recency_score,
    1 + DIV(5 * (RANK() OVER (ORDER BY orders) - 1), COUNT(*) OVER ()) AS frequency_score,
    1 + DIV(5 * (RANK() OVER (ORDER BY revenue) - 1), COUNT(*) OVER ()) AS monetary_score
FROM customers
