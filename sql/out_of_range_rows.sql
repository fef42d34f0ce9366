-- Number of rows that violate the CHECKs of their table. SQLite leaves CHECKs out of a read-only schema, so
-- that integrity_check misses such rows on a read-only connection.
select 'coffee_logs', count(*)
from coffee_logs
where not (timestamp between -62135596800000000 and 253402207200000000)
   or not (caffeine_mg >= 0 and caffeine_mg <= 1e6)
   or not (length(coffee_type) between 1 and 100)
   or not (length(notes) between 1 and 1000)
   or not (length(source) between 1 and 200)
union all
select 'heart_rate_logs', count(*)
from heart_rate_logs
where not (timestamp between -62135596800000000 and 253402207200000000)
   or not (bpm between 1 and 1000)
   or not (length(context) between 1 and 50)
   or not (length(notes) between 1 and 1000)
   or not (length(source) between 1 and 200);
