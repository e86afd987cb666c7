WITH judged AS (
    SELECT
        revenue,
        -- A score is only a place among the others: where all bought yesterday, the lowest is no absence.
        CASE
            WHEN
                recency_days < 30 AND LEAST(recency_score, frequency_score, monetary_score) >= 4
                THEN 'champions'
            WHEN
                recency_days >= 30 AND recency_score <= 2 AND GREATEST(frequency_score, monetary_score) >= 4
                THEN 'at risk'
            WHEN frequency_score >= 4 THEN 'loyal'
            WHEN monetary_score >= 4 THEN 'big spenders'
            WHEN recency_days < 30 AND recency_score >= 4 THEN 'recent'
            ELSE 'others'
        END AS segment
    FROM shop.customer_value
    -- One day is the state of all customers, whatever the range.
    WHERE event_date = @last_day AND @first_day <= @last_day
)

SELECT
    segment,
    COUNT(*) AS customers,
    SUM(revenue) AS revenue
FROM judged
GROUP BY segment
ORDER BY revenue DESC, segment ASC
