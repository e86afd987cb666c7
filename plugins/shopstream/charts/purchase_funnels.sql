WITH sums AS (
    SELECT
        SUM(viewed) AS viewed,
        SUM(view_cart) AS view_cart,
        SUM(view_cart_purchase) AS view_cart_purchase,
        SUM(view_purchase) AS view_purchase
    FROM shop.purchase_funnels
    WHERE
        event_date BETWEEN @first_day AND @last_day
        AND unit = 'session'
        AND scope = IF(@subcategory IS NULL, 'shop', 'subcategory')
        AND (@subcategory IS NULL OR subcategory = @subcategory)
),

steps AS (
    SELECT
        'view, cart, purchase' AS funnel,
        1 AS step_number,
        'viewed' AS step,
        viewed AS sessions,
        viewed
    FROM sums
    UNION ALL
    SELECT
        'view, cart, purchase' AS funnel,
        2 AS step_number,
        'then put into the cart' AS step,
        view_cart AS sessions,
        viewed
    FROM sums
    UNION ALL
    SELECT
        'view, cart, purchase' AS funnel,
        3 AS step_number,
        'then purchased' AS step,
        view_cart_purchase AS sessions,
        viewed
    FROM sums
    UNION ALL
    SELECT
        'view, purchase' AS funnel,
        1 AS step_number,
        'viewed' AS step,
        viewed AS sessions,
        viewed
    FROM sums
    UNION ALL
    SELECT
        'view, purchase' AS funnel,
        2 AS step_number,
        'then purchased' AS step,
        view_purchase AS sessions,
        viewed
    FROM sums
)

SELECT
    funnel,
    step_number,
    step,
    sessions,
    SAFE_DIVIDE(sessions, viewed) AS share_of_viewed
FROM steps
WHERE viewed > 0
ORDER BY funnel, step_number
