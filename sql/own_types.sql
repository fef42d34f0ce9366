-- The user's own types since ?1, most frequent first, at most ?2: name, how often, last
-- use, usual dose. The usual dose is the one logged most often of that type; of equally
-- frequent ones the most recent.
with doses as (
    select coffee_type, caffeine_mg, count(*) as times, max(timestamp) as last
    from coffee_logs
    where timestamp >= ?1 and coffee_type is not null
    group by coffee_type, caffeine_mg
),
ranked as (
    select coffee_type, caffeine_mg,
           sum(times) over type as times,
           max(last) over type as last,
           row_number() over (partition by coffee_type order by times desc, last desc) as place
    from doses
    window type as (partition by coffee_type)
)
select coffee_type, times, last, caffeine_mg
from ranked
where place = 1
order by times desc, last desc
limit ?2;
