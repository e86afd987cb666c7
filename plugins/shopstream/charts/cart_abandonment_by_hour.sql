SELECT
    cart_hour,
    SUM(carts) AS carts,
    SUM(abandoned_carts) AS abandoned_carts,
    SUM(abandoned_value) AS abandoned_value,
    SUM(abandoned_carts) / SUM(carts) AS abandonment_rate
FROM shop.cart_abandonment
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR subcategory = @subcategory)
GROUP BY cart_hour
ORDER BY cart_hour
