-- check: possible_values, severity: fail
SELECT
    user_id,
    orders,
    purchases,
    revenue
FROM shop.customer_purchases
WHERE
    event_date = @day
    AND (orders < 1 OR purchases < orders OR revenue < 0);

-- check: every_purchase_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_purchases,
        COALESCE(SUM(price), 0) AS expected_revenue,
        COUNT(DISTINCT user_id) AS expected_customers
    FROM shop_raw.carts_and_purchases
    WHERE event_date = @day AND event_type = 'purchase'
),

found AS (
    SELECT
        COALESCE(SUM(purchases), 0) AS found_purchases,
        COALESCE(SUM(revenue), 0) AS found_revenue,
        COUNT(*) AS found_customers
    FROM shop.customer_purchases
    WHERE event_date = @day
)

SELECT
    expected.expected_purchases,
    found.found_purchases,
    expected.expected_revenue,
    found.found_revenue,
    expected.expected_customers,
    found.found_customers
FROM expected
CROSS JOIN found
WHERE
    expected.expected_purchases != found.found_purchases
    OR expected.expected_revenue != found.found_revenue
    OR expected.expected_customers != found.found_customers;

-- check: plausible_customers, severity: warn
-- Over a hundred purchases of one customer on a day: a reseller, a test account, or a loop in the tracking.
SELECT
    user_id,
    purchases,
    revenue
FROM shop.customer_purchases
WHERE event_date = @day AND purchases > 100;
