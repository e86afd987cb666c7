-- check: possible_values, severity: fail
SELECT
    unit,
    kind,
    place,
    item_a,
    item_b,
    baskets,
    baskets_a,
    baskets_b,
    all_baskets,
    support,
    confidence_a,
    confidence_b,
    lift
FROM shop.bought_together
WHERE
    event_date = @day
    AND (
        unit NOT IN ('session', 'customer')
        OR kind NOT IN ('product', 'subcategory')
        OR place NOT BETWEEN 1 AND 100
        OR item_a >= item_b
        OR baskets NOT BETWEEN 1 AND LEAST(baskets_a, baskets_b)
        OR GREATEST(baskets_a, baskets_b) > all_baskets
        OR support NOT BETWEEN 0 AND 1
        OR confidence_a NOT BETWEEN support AND 1
        OR confidence_b NOT BETWEEN support AND 1
        OR ABS(lift * support - confidence_a * confidence_b) > 0.000001
    );

-- check: every_basket_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(DISTINCT user_id) AS expected_of_customers,
        COUNT(DISTINCT session_key) AS expected_of_sessions
    FROM shop_raw.carts_and_purchases
    WHERE event_date = @day AND event_type = 'purchase'
),

found AS (
    SELECT
        MAX(IF(unit = 'customer', all_baskets, NULL)) AS found_of_customers,
        MAX(IF(unit = 'session', all_baskets, NULL)) AS found_of_sessions
    FROM shop.bought_together
    WHERE event_date = @day AND kind = 'product'
)

-- Without a pair there is no row that says how many baskets there were.
SELECT
    expected.expected_of_customers,
    found.found_of_customers,
    expected.expected_of_sessions,
    found.found_of_sessions
FROM expected
CROSS JOIN found
WHERE
    expected.expected_of_customers != found.found_of_customers
    OR expected.expected_of_sessions != found.found_of_sessions;

-- check: no_pair_in_most_baskets, severity: warn
-- A pair in more than half of a hundred baskets and more: a bundle, or a loop in the tracking.
SELECT
    unit,
    kind,
    item_a,
    item_b,
    baskets,
    all_baskets
FROM shop.bought_together
WHERE event_date = @day AND all_baskets >= 100 AND baskets * 2 > all_baskets;
