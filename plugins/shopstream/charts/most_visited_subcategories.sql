SELECT
    subcategory,
    SUM(views) AS views
FROM shop.most_visited_subcategories
WHERE event_date BETWEEN @first_day AND @last_day
GROUP BY subcategory
ORDER BY views DESC, subcategory ASC
