WITH customers AS (
    SELECT
        user_id,
        MAX(event_date) AS last_purchase_date,
        SUM(orders) AS orders,
        SUM(revenue) AS revenue
    FROM shop.customer_purchases
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 89 DAY) AND @day
    GROUP BY user_id
),

-- How many customers are strictly worse. A window over all customers sorts them in one place; these sort the
-- distinct values. NTILE would part customers of equal worth, at random.
by_date AS (
    SELECT
        last_purchase_date,
        SUM(COUNT(*)) OVER (ORDER BY last_purchase_date) - COUNT(*) AS worse
    FROM customers
    GROUP BY last_purchase_date
),

by_orders AS (
    SELECT
        orders,
        SUM(COUNT(*)) OVER (ORDER BY orders) - COUNT(*) AS worse
    FROM customers
    GROUP BY orders
),

by_revenue AS (
    SELECT
        revenue,
        SUM(COUNT(*)) OVER (ORDER BY revenue) - COUNT(*) AS worse
    FROM customers
    GROUP BY revenue
),

counted AS (
    SELECT COUNT(*) AS customers
    FROM customers
)

SELECT
    @day AS event_date,
    customers.user_id,
    customers.last_purchase_date,
    DATE_DIFF(@day, customers.last_purchase_date, DAY) AS recency_days,
    customers.orders,
    customers.revenue,
    1 + DIV(5 * by_date.worse, counted.customers) AS recency_score,
    1 + DIV(5 * by_orders.worse, counted.customers) AS frequency_score,
    1 + DIV(5 * by_revenue.worse, counted.customers) AS monetary_score
FROM customers
INNER JOIN by_date ON customers.last_purchase_date = by_date.last_purchase_date
INNER JOIN by_orders ON customers.orders = by_orders.orders
INNER JOIN by_revenue ON customers.revenue = by_revenue.revenue
CROSS JOIN counted
