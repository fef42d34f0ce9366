-- Number of uses and last use of each dose of each spelling of a coffee type since ?1.
select coffee_type, caffeine_mg, count(*), max(timestamp)
from coffee_logs indexed by coffee_logs_by_time
where timestamp >= ?1 and coffee_type is not null
group by coffee_type, caffeine_mg;
