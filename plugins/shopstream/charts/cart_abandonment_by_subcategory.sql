SELECT
    COALESCE(subcategory, 'no sub-category') AS subcategory,
    SUM(carts) AS carts,
    SUM(abandoned_carts) AS abandoned_carts,
    SUM(abandoned_value) AS abandoned_value,
    SUM(abandoned_carts) / SUM(carts) AS abandonment_rate
FROM shop.cart_abandonment
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY subcategory
ORDER BY carts DESC, subcategory ASC
LIMIT 200
