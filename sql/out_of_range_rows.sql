-- Rows that the tables' own CHECKs would not let in, by table. A connection that only reads
-- does not know the CHECKs (SQLite leaves them out of a read-only schema), so that its
-- integrity_check passes over such rows; and a restored one would be answered with a 500.
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
