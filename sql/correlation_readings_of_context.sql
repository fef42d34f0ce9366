-- Readings of one context for a correlation, in time order; combined as in correlation_readings.sql. Uses the
-- index by time, since most readings usually have the requested context.
select (timestamp - ?1) << 10 | bpm from heart_rate_logs indexed by heart_rate_logs_by_time
where timestamp >= ?1 and timestamp < ?2 and +context = ?3
order by timestamp
