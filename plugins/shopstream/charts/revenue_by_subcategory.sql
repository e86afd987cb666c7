SELECT
    COALESCE(SPLIT(category_code, '.')[SAFE_OFFSET(1)], 'no sub-category') AS subcategory,
    SUM(revenue) AS revenue,
    SUM(purchases) AS purchases,
    SAFE_DIVIDE(SUM(purchases), SUM(views)) AS purchases_per_view,
    SUM(views) AS views,
    SUM(carts) AS carts
FROM shop.product_performance
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR SPLIT(category_code, '.')[SAFE_OFFSET(1)] = @subcategory)
    AND (@brand IS NULL OR brand = @brand)
GROUP BY subcategory
ORDER BY revenue DESC, views DESC, subcategory ASC
LIMIT 200
