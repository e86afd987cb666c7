WITH sums AS (
    SELECT
        SUM(viewed) AS viewed,
        SUM(view_cart) AS view_cart,
        SUM(view_cart_purchase) AS view_cart_purchase,
        SUM(view_purchase) AS view_purchase,
        SUM(carts) AS carts,
        SUM(carts) - SUM(abandoned_carts) AS bought_carts
    FROM shop.session_funnels
    WHERE
        event_date BETWEEN @first_day AND @last_day
        AND (@subcategory IS NULL OR landing_subcategory = @subcategory)
)

SELECT
    CASE
        WHEN number <= 3 THEN 'sessions: view, cart, purchase'
        WHEN number <= 5 THEN 'sessions: view, purchase'
        ELSE 'products put into the cart'
    END AS funnel,
    CASE WHEN number <= 3 THEN number WHEN number <= 5 THEN number - 3 ELSE number - 5 END AS step_number,
    CASE
        WHEN number IN (1, 4) THEN 'viewed'
        WHEN number = 2 THEN 'then put into the cart'
        WHEN number = 6 THEN 'put into the cart'
        ELSE 'then purchased'
    END AS step,
    CASE number
        WHEN 1 THEN sums.viewed
        WHEN 2 THEN sums.view_cart
        WHEN 3 THEN sums.view_cart_purchase
        WHEN 4 THEN sums.viewed
        WHEN 5 THEN sums.view_purchase
        WHEN 6 THEN sums.carts
        ELSE sums.bought_carts
    END AS counted,
    SAFE_DIVIDE(
        CASE number
            WHEN 1 THEN sums.viewed
            WHEN 2 THEN sums.view_cart
            WHEN 3 THEN sums.view_cart_purchase
            WHEN 4 THEN sums.viewed
            WHEN 5 THEN sums.view_purchase
            WHEN 6 THEN sums.carts
            ELSE sums.bought_carts
        END,
        IF(number <= 5, sums.viewed, sums.carts)
    ) AS share_of_first
FROM sums
CROSS JOIN UNNEST([1, 2, 3, 4, 5, 6, 7]) AS number
WHERE sums.viewed > 0
ORDER BY number
