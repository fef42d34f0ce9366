-- Readings of a correlation in time order, except for five contexts: ?3 to ?7 are those of EXCLUDED_CONTEXTS
-- (src/domain/correlation/evidence.rs) in its order. Time since the start (microseconds) and bpm (at most
-- 1000) are combined into one number, because each column of each row costs time, and a year may have half a
-- million rows until its days are packed. `between` accepts 'resting', the usual context, with two
-- comparisons, and none of the five lies in that range. `case` compares its operand once with each value,
-- which is faster than `not in`. The most frequent of the five, 'sleeping' (?6), comes first.
select (timestamp - ?1) << 10 | bpm from heart_rate_logs indexed by heart_rate_logs_by_time
where timestamp >= ?1 and timestamp < ?2
  and case when context between 'post' and 'resting' then 1 else
      case context when ?6 then 0 when ?3 then 0 when ?4 then 0 when ?5 then 0 when ?7 then 0 else 1 end end
order by timestamp
