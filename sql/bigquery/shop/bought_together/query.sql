WITH bought AS (
    SELECT DISTINCT
        unit,
        kind,
        IF(unit = 'session', TO_HEX(session_key), CAST(user_id AS STRING)) AS basket,
        IF(kind = 'product', CAST(product_id AS STRING), category_level_2) AS item
    FROM shop_raw.carts_and_purchases
    CROSS JOIN UNNEST(['session', 'customer']) AS unit
    CROSS JOIN UNNEST(['product', 'subcategory']) AS kind
    WHERE
        event_date = @day
        AND event_type = 'purchase'
        AND (unit = 'customer' OR session_key IS NOT NULL)
        AND (kind = 'product' OR category_level_2 IS NOT NULL)
),

sums AS (
    SELECT
        unit,
        kind,
        COUNT(DISTINCT basket) AS all_baskets
    FROM bought
    GROUP BY unit, kind
),

items AS (
    SELECT
        unit,
        kind,
        item,
        COUNT(*) AS baskets
    FROM bought
    GROUP BY unit, kind, item
),

pairs AS (
    SELECT
        bought.unit,
        bought.kind,
        bought.item AS item_a,
        others.item AS item_b,
        COUNT(*) AS baskets
    FROM bought
    INNER JOIN bought AS others
        ON
            bought.unit = others.unit
            AND bought.kind = others.kind
            AND bought.basket = others.basket
            AND bought.item < others.item
    GROUP BY bought.unit, bought.kind, item_a, item_b
),

ranked AS (
    SELECT
        pairs.unit,
        pairs.kind,
        pairs.item_a,
        pairs.item_b,
        pairs.baskets,
        items_a.baskets AS baskets_a,
        items_b.baskets AS baskets_b,
        sums.all_baskets,
        -- Of equally frequent pairs first that of the highest lift, in whole numbers.
        ROW_NUMBER() OVER (
            PARTITION BY pairs.unit, pairs.kind
            ORDER BY
                pairs.baskets DESC,
                items_a.baskets * items_b.baskets ASC,
                pairs.item_a ASC,
                pairs.item_b ASC
        ) AS place
    FROM pairs
    INNER JOIN items AS items_a
        ON pairs.unit = items_a.unit AND pairs.kind = items_a.kind AND pairs.item_a = items_a.item
    INNER JOIN items AS items_b
        ON pairs.unit = items_b.unit AND pairs.kind = items_b.kind AND pairs.item_b = items_b.item
    INNER JOIN sums
        ON pairs.unit = sums.unit AND pairs.kind = sums.kind
)

SELECT
    @day AS event_date,
    unit,
    kind,
    place,
    item_a,
    item_b,
    baskets,
    baskets_a,
    baskets_b,
    all_baskets,
    baskets / all_baskets AS support,
    baskets / baskets_a AS confidence_a,
    baskets / baskets_b AS confidence_b,
    baskets * all_baskets / (baskets_a * baskets_b) AS lift
FROM ranked
WHERE place <= 100
