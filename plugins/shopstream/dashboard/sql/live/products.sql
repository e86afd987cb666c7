SELECT
    product_id,
    brand,
    category_code,
    revenue,
    purchases,
    carts,
    views
FROM shop.live_top_products
WHERE revenue > 0
ORDER BY revenue DESC, views DESC, product_id ASC
LIMIT 10
