-- Applied once the rows of events are in loaded_events (plugins/shopstream/tables/old_events.py).
--
-- A customer's journey: each event once, however many landing days published it. Whatever two landings of one event
-- may differ in is left out of the event's identity.
--
-- Filter by shard, user_id and event_date: those are the key's first parts, and the filter reaches the table. The
-- events come first in the join, so that they are found by their key and not by the loads.
CREATE OR REPLACE VIEW customer_journey SQL SECURITY INVOKER AS
SELECT
  events.shard,
  events.user_id,
  events.event_date,
  events.event_time,
  events.event_id,
  ANY_VALUE(events.event_type) AS event_type,
  ANY_VALUE(events.product_id) AS product_id,
  ANY_VALUE(events.category_id) AS category_id,
  ANY_VALUE(events.category_code) AS category_code,
  ANY_VALUE(events.brand) AS brand,
  ANY_VALUE(events.price) AS price,
  ANY_VALUE(events.user_session) AS user_session,
  MIN(events.landing_day) AS first_landing_day
FROM loaded_events AS events
JOIN@{FORCE_JOIN_ORDER=TRUE} published_loads AS published
  ON published.landing_day = events.landing_day AND published.load_id = events.load_id
GROUP BY events.shard, events.user_id, events.event_date, events.event_time, events.event_id;

DROP TABLE IF EXISTS events;
