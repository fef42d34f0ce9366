-- The readings of a correlation, in time order, but for those of five contexts: the time since the
-- start (in microseconds) and the pulse (at most 1000) in one number, as a year of a watch has half a
-- million, and each column of each costs. The range accepts 'resting', the usual context, with two
-- comparisons; none of the five lies in it. A case compares its operand once with each value, `not in`
-- is slower. 'sleeping', the most frequent of the five, comes first.
select (timestamp - ?1) << 10 | bpm from heart_rate_logs indexed by heart_rate_logs_by_time
where timestamp >= ?1 and timestamp < ?2
  and case when context between 'post' and 'resting' then 1 else
      case context when ?6 then 0 when ?3 then 0 when ?4 then 0 when ?5 then 0 when ?7 then 0 else 1 end end
order by timestamp
