-- The readings of one context for a correlation, in time order; packed as in calm_readings.sql. By
-- time, as most readings of most people have the context that is asked for.
select (timestamp - ?1) << 10 | bpm from heart_rate_logs indexed by heart_rate_logs_by_time
where timestamp >= ?1 and timestamp < ?2 and +context = ?3
order by timestamp
