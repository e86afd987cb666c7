WITH choices AS (
    SELECT
        'subcategory' AS kind,
        subcategory AS choice,
        SUM(views) AS views
    FROM shop.most_visited_subcategories
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY subcategory
    UNION ALL
    SELECT
        'brand' AS kind,
        brand AS choice,
        SUM(views) AS views
    FROM shop.brand_performance
    WHERE event_date BETWEEN @first_day AND @last_day AND brand IS NOT NULL
    GROUP BY brand
)

SELECT
    kind,
    choice,
    views
FROM choices
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY kind ORDER BY views DESC, choice ASC) <= 500
ORDER BY kind ASC, views DESC, choice ASC
