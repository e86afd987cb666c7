-- Every accepted event, for serving: one customer's journey, or one day, in milliseconds.
--
-- The key leads with shard = a hash of user_id modulo 16 (SHARDS in beam_jobs/contract.py), never with a time or a
-- counter, so that the writes of one moment spread over many splits. A customer's journey is one range for each day
-- (shard follows from user_id), and a day is 16 ranges. The last part, landing_day, lets an event stand once for
-- each day that landed it (docs/adr/0003).
--
-- No secondary index: each would add its entries to the mutations of every commit, and both reads follow the key.
-- event_date is the UTC date of event_time.
CREATE TABLE IF NOT EXISTS events (
  shard INT64 NOT NULL,
  event_date DATE NOT NULL,
  user_id INT64 NOT NULL,
  event_time TIMESTAMP NOT NULL,
  event_id STRING(32) NOT NULL,
  landing_day DATE NOT NULL,
  event_type STRING(8) NOT NULL,
  product_id INT64 NOT NULL,
  category_id INT64 NOT NULL,
  category_code STRING(256),
  brand STRING(256),
  price NUMERIC NOT NULL,
  user_session STRING(128),
  load_id STRING(64) NOT NULL,
) PRIMARY KEY (shard, event_date, user_id, event_time, event_id, landing_day);
