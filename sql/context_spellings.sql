-- Every stored context. Each step seeks the next one in the index, so the cost depends on the number of contexts,
-- not of readings.
with recursive spellings (spelling) as (
    select min(context) from heart_rate_logs indexed by heart_rate_logs_by_context where context > ''
    union all
    select (
        select min(context) from heart_rate_logs indexed by heart_rate_logs_by_context
        where context > spellings.spelling)
    from spellings
    where spelling is not null
)
select spelling from spellings where spelling is not null;
