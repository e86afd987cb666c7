-- check: accepted_event_types, severity: fail
SELECT
    event_type,
    COUNT(*) AS found_rows
FROM shop.purchase_conversion_rate
WHERE
    event_date = @day
    AND event_type NOT IN ('view', 'cart', 'purchase')
GROUP BY event_type;

-- check: possible_values, severity: fail
SELECT
    subcategory,
    event_type,
    events,
    share_of_events,
    purchases_per_view
FROM shop.purchase_conversion_rate
WHERE
    event_date = @day
    AND (
        events < 1
        OR subcategory = ''
        OR share_of_events <= 0
        OR share_of_events > 1
        OR purchases_per_view < 0
        OR (purchases_per_view IS NULL AND event_type = 'view')
    );

-- check: shares_add_up_to_one, severity: fail
SELECT
    subcategory,
    SUM(share_of_events) AS found_sum
FROM shop.purchase_conversion_rate
WHERE event_date = @day
GROUP BY subcategory
HAVING ABS(SUM(share_of_events) - 1) > 1e-9;

-- check: every_event_counted, severity: fail
WITH compared AS (
    SELECT
        (
            SELECT COUNT(*)
            FROM shop_raw.events_deduplicated
            WHERE event_date = @day AND category_level_2 IS NOT NULL
        ) AS expected_events,
        (
            SELECT COALESCE(SUM(events), 0)
            FROM shop.purchase_conversion_rate
            WHERE event_date = @day
        ) AS found_events
)

SELECT
    expected_events,
    found_events
FROM compared
WHERE expected_events != found_events;

-- check: plausible_purchases_per_view, severity: warn
-- Sub-categories with a hundred views or more, of which more than one in three was a purchase.
SELECT
    subcategory,
    events AS found_views,
    purchases_per_view
FROM shop.purchase_conversion_rate
WHERE
    event_date = @day
    AND event_type = 'view'
    AND events >= 100
    AND purchases_per_view > 1 / 3;
