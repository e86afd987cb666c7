WITH sums AS (
    SELECT
        kind,
        item_a,
        item_b,
        SUM(baskets) AS baskets,
        SUM(baskets_a) AS baskets_a,
        SUM(baskets_b) AS baskets_b,
        SUM(all_baskets) AS all_baskets
    FROM shop.bought_together
    WHERE
        event_date BETWEEN @first_day AND @last_day
        AND unit = 'customer'
    GROUP BY kind, item_a, item_b
),

ranked AS (
    SELECT
        kind,
        item_a,
        item_b,
        baskets,
        baskets_a,
        baskets_b,
        all_baskets,
        ROW_NUMBER() OVER (PARTITION BY kind ORDER BY baskets DESC, item_a ASC, item_b ASC) AS place
    FROM sums
    WHERE @subcategory IS NULL OR (kind = 'subcategory' AND @subcategory IN (item_a, item_b))
)

SELECT
    kind,
    item_a,
    item_b,
    baskets,
    baskets / all_baskets AS support,
    baskets / baskets_a AS confidence_a,
    baskets / baskets_b AS confidence_b,
    baskets * all_baskets / (baskets_a * baskets_b) AS lift
FROM ranked
WHERE place <= 100
ORDER BY kind DESC, place ASC
