SELECT
    event_date,
    landing_subcategory,
    COUNT(*) AS sessions,
    COUNTIF(views > 0) AS viewed,
    COUNTIF(carts > 0) AS carted,
    COUNTIF(purchases > 0) AS purchased,
    COUNTIF(funnel IN ('view_cart', 'view_cart_purchase')) AS view_cart,
    COUNTIF(funnel = 'view_cart_purchase') AS view_cart_purchase,
    COUNTIF(funnel = 'view_purchase') AS view_purchase,
    COUNTIF(funnel = 'cart_view_purchase') AS cart_view_purchase,
    COUNTIF(funnel = 'purchase_before_view') AS purchase_before_view,
    COUNTIF(funnel = 'purchase_without_view') AS purchase_without_view,
    SAFE_DIVIDE(
        COUNTIF(funnel IN ('view_cart_purchase', 'view_purchase', 'cart_view_purchase')), COUNTIF(views > 0)
    ) AS conversion_rate,
    SUM(carted_products) AS carts,
    SUM(cart_value) AS cart_value,
    SUM(abandoned_products) AS abandoned_carts,
    SUM(abandoned_value) AS abandoned_value,
    SAFE_DIVIDE(SUM(abandoned_products), SUM(carted_products)) AS abandonment_rate
FROM shop.sessions
GROUP BY event_date, landing_subcategory
