-- check: every_first_view_there, severity: fail
WITH expected AS (
    SELECT
        COUNT(DISTINCT product_id) AS expected_products,
        COUNT(DISTINCT user_id) AS expected_customers,
        MIN(event_time) AS expected_first
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day AND event_type = 'view'
),

found AS (
    SELECT
        COUNT(DISTINCT product_id) AS found_products,
        COUNT(DISTINCT user_id) AS found_customers,
        MIN(first_view) AS found_first
    FROM shop_raw.product_views
    WHERE event_date = @day
)

SELECT
    expected.expected_products,
    found.found_products,
    expected.expected_customers,
    found.found_customers,
    expected.expected_first,
    found.found_first
FROM expected
CROSS JOIN found
WHERE
    expected.expected_products != found.found_products
    OR expected.expected_customers != found.found_customers
    OR expected.expected_first != found.found_first;
