-- check: possible_values, severity: fail
SELECT
    user_id,
    last_purchase_date,
    recency_days,
    orders,
    revenue,
    recency_score,
    frequency_score,
    monetary_score
FROM shop.customer_value
WHERE
    event_date = @day
    AND (
        recency_days NOT BETWEEN 0 AND 89
        OR recency_days != DATE_DIFF(event_date, last_purchase_date, DAY)
        OR orders < 1
        OR revenue < 0
        OR recency_score NOT BETWEEN 1 AND 5
        OR frequency_score NOT BETWEEN 1 AND 5
        OR monetary_score NOT BETWEEN 1 AND 5
    );

-- check: a_higher_score_is_more_revenue, severity: fail
WITH scores AS (
    SELECT
        monetary_score,
        MIN(revenue) AS least_revenue,
        LAG(MAX(revenue)) OVER (ORDER BY monetary_score) AS most_revenue_of_lower_score
    FROM shop.customer_value
    WHERE event_date = @day
    GROUP BY monetary_score
)

SELECT
    monetary_score,
    least_revenue,
    most_revenue_of_lower_score
FROM scores
WHERE least_revenue <= most_revenue_of_lower_score;

-- check: every_purchase_counted, severity: fail
WITH expected AS (
    SELECT
        COALESCE(SUM(revenue), 0) AS expected_revenue,
        COALESCE(SUM(orders), 0) AS expected_orders,
        COUNT(DISTINCT user_id) AS expected_customers
    FROM shop.customer_purchases
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 89 DAY) AND @day
),

found AS (
    SELECT
        COALESCE(SUM(revenue), 0) AS found_revenue,
        COALESCE(SUM(orders), 0) AS found_orders,
        COUNT(*) AS found_customers
    FROM shop.customer_value
    WHERE event_date = @day
)

SELECT
    expected.expected_revenue,
    found.found_revenue,
    expected.expected_orders,
    found.found_orders,
    expected.expected_customers,
    found.found_customers
FROM expected
CROSS JOIN found
WHERE
    expected.expected_revenue != found.found_revenue
    OR expected.expected_orders != found.found_orders
    OR expected.expected_customers != found.found_customers;

-- check: like_the_day_before, severity: warn
-- A day adds one day of ninety and takes one away: twice or half as many customers is a gap in the summaries.
WITH compared AS (
    SELECT
        COUNTIF(event_date = @day) AS found_customers,
        COUNTIF(event_date < @day) AS customers_before
    FROM shop.customer_value
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 1 DAY) AND @day
)

SELECT
    found_customers,
    customers_before
FROM compared
WHERE
    customers_before > 0
    AND (found_customers < customers_before / 2 OR found_customers > customers_before * 2);
