SELECT
    event_date,
    category_level_2 AS subcategory,
    COUNT(*) AS views
FROM shop_raw.events_deduplicated
WHERE
    event_date = @day
    AND event_type = 'view'
    AND category_level_2 IS NOT NULL
GROUP BY event_date, subcategory
