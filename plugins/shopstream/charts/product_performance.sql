SELECT
    product_id,
    MAX(brand) AS brand,
    MAX(category_code) AS category_code,
    SUM(revenue) AS revenue,
    SUM(purchases) AS purchases,
    SAFE_DIVIDE(SUM(purchases), SUM(views)) AS purchases_per_view,
    SUM(views) AS views,
    SUM(carts) AS carts,
    SUM(viewing_sessions) AS viewing_sessions,
    SUM(converted_sessions) AS converted_sessions
FROM shop.product_performance
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR SPLIT(category_code, '.')[SAFE_OFFSET(1)] = @subcategory)
    AND (@brand IS NULL OR brand = @brand)
GROUP BY product_id
ORDER BY revenue DESC, views DESC, product_id ASC
LIMIT 200
