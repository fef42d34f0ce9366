-- Every spelling of a coffee type with the timestamp and id of its oldest coffee. Each step seeks the next
-- spelling in the index, so the cost depends on the number of spellings, not of coffees.
with recursive spellings (spelling) as (
    select min(coffee_type) from coffee_logs indexed by coffee_logs_by_type where coffee_type > ''
    union all
    select (
        select min(coffee_type) from coffee_logs indexed by coffee_logs_by_type
        where coffee_type > spellings.spelling)
    from spellings
    where spelling is not null
)
select spelling,
       (select timestamp from coffee_logs indexed by coffee_logs_by_type
        where coffee_type = spelling order by timestamp, id limit 1),
       (select id from coffee_logs indexed by coffee_logs_by_type
        where coffee_type = spelling order by timestamp, id limit 1)
from spellings
where spelling is not null;
