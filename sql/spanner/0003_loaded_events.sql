-- Every accepted event of every load, published or not (docs/adr/0020). Readers use the view customer_journey.
--
-- The key is that of events before, with load_id at its end (docs/adr/0003): two loads of a landing day never write
-- the same row, so no load changes what readers see before it is published.
--
-- shard is a hash of user_id modulo 16 (SHARDS in beam_jobs/contract.py), event_date the UTC date of event_time.
CREATE TABLE IF NOT EXISTS loaded_events (
  shard INT64 NOT NULL,
  event_date DATE NOT NULL,
  user_id INT64 NOT NULL,
  event_time TIMESTAMP NOT NULL,
  event_id STRING(32) NOT NULL,
  landing_day DATE NOT NULL,
  load_id STRING(64) NOT NULL,
  event_type STRING(8) NOT NULL,
  product_id INT64 NOT NULL,
  category_id INT64 NOT NULL,
  category_code STRING(256),
  brand STRING(256),
  price NUMERIC NOT NULL,
  user_session STRING(128),
) PRIMARY KEY (shard, event_date, user_id, event_time, event_id, landing_day, load_id);

-- The load of each landing day that readers see; one row changes it for all of them at once.
CREATE TABLE IF NOT EXISTS published_loads (
  landing_day DATE NOT NULL,
  load_id STRING(64) NOT NULL,
  published_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (landing_day);
