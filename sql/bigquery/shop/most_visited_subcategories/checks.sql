-- check: possible_counts, severity: fail
-- A row stands for at least one view.
SELECT
    subcategory,
    views
FROM shop.most_visited_subcategories
WHERE
    event_date = @day
    AND (views < 1 OR subcategory = '');

-- check: every_view_counted, severity: fail
WITH compared AS (
    SELECT
        (
            SELECT COUNT(*)
            FROM shop_raw.events_deduplicated
            WHERE event_date = @day AND event_type = 'view' AND category_level_2 IS NOT NULL
        ) AS expected_views,
        (
            SELECT COALESCE(SUM(views), 0)
            FROM shop.most_visited_subcategories
            WHERE event_date = @day
        ) AS found_views
)

SELECT
    expected_views,
    found_views
FROM compared
WHERE expected_views != found_views;

-- check: ten_subcategories, severity: warn
-- Fewer than ten sub-categories were viewed: the chart shows ten, and a day of this shop has about sixty.
SELECT COUNT(*) AS found_subcategories
FROM shop.most_visited_subcategories
WHERE event_date = @day
HAVING COUNT(*) < 10;
