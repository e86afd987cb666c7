SELECT
    brand,
    SUM(revenue) AS revenue,
    SUM(purchases) AS purchases,
    SAFE_DIVIDE(SUM(purchases), SUM(views)) AS purchases_per_view,
    SUM(views) AS views,
    SUM(carts) AS carts,
    SUM(viewing_sessions) AS viewing_sessions,
    SUM(converted_sessions) AS converted_sessions
FROM shop.brand_performance
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND brand IS NOT NULL
    AND (@brand IS NULL OR brand = @brand)
GROUP BY brand
ORDER BY revenue DESC, views DESC, brand ASC
LIMIT 200
