-- The readings of a correlation, in time order, but for those of five contexts: the time since the
-- start (in microseconds) and the pulse (at most 1000) in one number, as a year of a watch has half a
-- million, and each column of each costs. The case looks at the context once, a list of <> five times.
select (timestamp - ?1) << 10 | bpm from heart_rate_logs indexed by heart_rate_logs_by_time
where timestamp >= ?1 and timestamp < ?2
  and case context when ?3 then 0 when ?4 then 0 when ?5 then 0 when ?6 then 0 when ?7 then 0 else 1 end
order by timestamp
