-- check: possible_values, severity: fail
SELECT
    brand,
    views,
    carts,
    purchases,
    revenue,
    viewing_sessions,
    converted_sessions,
    conversion_rate
FROM shop.brand_performance
WHERE
    event_date = @day
    AND (
        LEAST(views, carts, purchases, converted_sessions) < 0
        OR views + carts + purchases < 1
        OR revenue < 0
        OR (purchases = 0 AND revenue > 0)
        OR viewing_sessions > views
        OR converted_sessions > LEAST(viewing_sessions, purchases)
        OR conversion_rate NOT BETWEEN 0 AND 1
    );

-- check: averages_fit_their_sums, severity: fail
SELECT
    brand,
    purchases,
    revenue,
    average_price_viewed,
    average_price_paid
FROM shop.brand_performance
WHERE
    event_date = @day
    AND (
        average_price_viewed < 0
        OR (average_price_paid IS NULL) != (purchases = 0)
        OR ABS(average_price_paid * purchases - revenue) * 2000000 > purchases
    );

-- check: every_event_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_events,
        COALESCE(SUM(IF(event_type = 'purchase', price, 0)), 0) AS expected_revenue
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
),

found AS (
    SELECT
        COALESCE(SUM(views + carts + purchases), 0) AS found_events,
        COALESCE(SUM(revenue), 0) AS found_revenue
    FROM shop.brand_performance
    WHERE event_date = @day
)

SELECT
    expected.expected_events,
    found.found_events,
    expected.expected_revenue,
    found.found_revenue
FROM expected
CROSS JOIN found
WHERE
    expected.expected_events != found.found_events
    OR expected.expected_revenue != found.found_revenue;

-- check: most_products_have_a_brand, severity: warn
-- One event in seven of this shop is of a product without brand; more than one in two is a faulty export.
SELECT
    SUM(views + carts + purchases) AS found_events,
    SUM(IF(brand IS NULL, views + carts + purchases, 0)) AS found_events_without_brand
FROM shop.brand_performance
WHERE event_date = @day
HAVING SUM(IF(brand IS NULL, views + carts + purchases, 0)) * 2 > SUM(views + carts + purchases);
