-- check: possible_values, severity: fail
SELECT
    orders,
    buyers,
    purchases,
    revenue,
    average_order_value
FROM shop.revenue_daily
WHERE
    event_date = @day
    AND (
        orders NOT BETWEEN buyers AND purchases
        OR (purchases = 0) != (orders = 0)
        OR (purchases = 0) != (buyers = 0)
        OR revenue < 0
        OR (average_order_value IS NULL) != (orders = 0)
        OR ABS(average_order_value * orders - revenue) * 2000000 > orders
    );

-- check: every_purchase_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_purchases,
        COALESCE(SUM(price), 0) AS expected_revenue,
        COUNT(DISTINCT user_id) AS expected_buyers,
        -- No session is an empty string.
        COUNT(DISTINCT CONCAT(CAST(user_id AS STRING), ' ', COALESCE(TO_HEX(session_key), '')))
            AS expected_orders
    FROM shop_raw.carts_and_purchases
    WHERE event_date = @day AND event_type = 'purchase'
),

found AS (
    SELECT
        COALESCE(SUM(purchases), 0) AS found_purchases,
        COALESCE(SUM(revenue), 0) AS found_revenue,
        COALESCE(SUM(buyers), 0) AS found_buyers,
        COALESCE(SUM(orders), 0) AS found_orders
    FROM shop.revenue_daily
    WHERE event_date = @day
)

SELECT
    expected.expected_purchases,
    found.found_purchases,
    expected.expected_revenue,
    found.found_revenue,
    expected.expected_buyers,
    found.found_buyers,
    expected.expected_orders,
    found.found_orders
FROM expected
CROSS JOIN found
WHERE
    expected.expected_purchases != found.found_purchases
    OR expected.expected_revenue != found.found_revenue
    OR expected.expected_buyers != found.found_buyers
    OR expected.expected_orders != found.found_orders;

-- check: something_sold, severity: warn
-- A shop sells every day: a day of events without a purchase is more likely a gap in the tracking.
SELECT
    event_date,
    orders,
    revenue
FROM shop.revenue_daily
WHERE event_date = @day AND orders = 0;

-- check: week_before_as_built_then, severity: warn
-- The week before is counted anew; if its own row differs, it was not built after its last events came.
WITH compared AS (
    SELECT
        SUM(IF(event_date = @day, revenue_week_before, NULL)) AS revenue_week_before,
        SUM(IF(event_date < @day, revenue, NULL)) AS revenue_built_then
    FROM shop.revenue_daily
    WHERE event_date IN (@day, DATE_SUB(@day, INTERVAL 7 DAY))
)

SELECT
    revenue_week_before,
    revenue_built_then
FROM compared
WHERE revenue_week_before != revenue_built_then;

-- check: like_the_week_before, severity: warn
-- Less than half or more than twice the revenue of the week before.
SELECT
    revenue,
    revenue_week_before
FROM shop.revenue_daily
WHERE
    event_date = @day
    AND (revenue < revenue_week_before / 2 OR revenue > revenue_week_before * 2);
