SELECT
    product_id,
    brand,
    revenue,
    purchases,
    carts,
    views,
    category_code
FROM shop.live_top_products
WHERE revenue > 0
ORDER BY revenue DESC, views DESC, product_id ASC
LIMIT 10
