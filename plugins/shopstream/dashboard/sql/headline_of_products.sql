SELECT
    event_date,
    SUM(views) AS views,
    SUM(carts) AS carts,
    SUM(purchases) AS purchases,
    SUM(revenue) AS revenue
FROM shop.product_performance
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR SPLIT(category_code, '.')[SAFE_OFFSET(1)] = @subcategory)
    AND (@brand IS NULL OR brand = @brand)
GROUP BY event_date
ORDER BY event_date
