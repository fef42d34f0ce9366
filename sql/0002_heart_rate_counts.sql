-- Rollups of the readings, for statistics over years. Triggers keep them equal to the readings; the program
-- builds the rollups of existing rows after this migration. Days and hours are in UTC, numbered from 1970
-- (negative before).
--
-- All divisions start at 0001-01-01, the lower bound of timestamps, 719,162 days before 1970: SQLite
-- rounds towards zero, which is downwards only for positive numbers.

-- Distribution of bpm by day and context ('' stands for none).
create table heart_rate_days (
    day     integer not null,
    context text    not null,
    bpm     integer not null,
    count   integer not null check (count > 0),
    primary key (day, context, bpm)
) strict, without rowid;

-- The same for blocks of 32 days: block n holds the days 32n to 32n+31.
create table heart_rate_blocks (
    block   integer not null,
    context text    not null,
    bpm     integer not null,
    count   integer not null check (count > 0),
    primary key (block, context, bpm)
) strict, without rowid;

-- Aggregates by hour, for charts and for seeking deep into lists.
create table heart_rate_hours (
    hour    integer primary key,
    count   integer not null check (count > 0),
    sum     integer not null,
    min_bpm integer not null,
    max_bpm integer not null
) strict;

create trigger heart_rate_logs_counted after insert on heart_rate_logs
begin
    insert into heart_rate_days
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162, coalesce(new.context, ''), new.bpm, 1)
    on conflict do update set count = count + 1;

    insert into heart_rate_blocks
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5, coalesce(new.context, ''), new.bpm, 1)
    on conflict do update set count = count + 1;

    insert into heart_rate_hours
    values ((new.timestamp + 62135596800000000) / 3600000000 - 17259888, 1, new.bpm, new.bpm, new.bpm)
    on conflict do update set
        count = count + 1, sum = sum + excluded.sum,
        min_bpm = min(min_bpm, excluded.min_bpm), max_bpm = max(max_bpm, excluded.max_bpm);
end;

create trigger heart_rate_logs_uncounted after delete on heart_rate_logs
begin
    delete from heart_rate_days
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162
      and context = coalesce(old.context, '') and bpm = old.bpm and count = 1;
    update heart_rate_days set count = count - 1
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162
      and context = coalesce(old.context, '') and bpm = old.bpm and count > 1;

    delete from heart_rate_blocks
    where block = (old.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5
      and context = coalesce(old.context, '') and bpm = old.bpm and count = 1;
    update heart_rate_blocks set count = count - 1
    where block = (old.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5
      and context = coalesce(old.context, '') and bpm = old.bpm and count > 1;

    delete from heart_rate_hours
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888 and count = 1;
    update heart_rate_hours set count = count - 1, sum = sum - old.bpm
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888;
    -- The slowest or the fastest of the hour is gone: those that are left are looked at.
    update heart_rate_hours set (min_bpm, max_bpm) = (
        select min(bpm), max(bpm) from heart_rate_logs
        where timestamp >= (hour + 17259888) * 3600000000 - 62135596800000000
          and timestamp < (hour + 17259889) * 3600000000 - 62135596800000000)
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888
      and old.bpm in (min_bpm, max_bpm);
end;

-- An update is a deletion and an insertion. Triggers cannot call each other, so the statements are repeated.
create trigger heart_rate_logs_recounted after update on heart_rate_logs
when (old.timestamp, old.bpm, old.context) is not (new.timestamp, new.bpm, new.context)
begin
    delete from heart_rate_days
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162
      and context = coalesce(old.context, '') and bpm = old.bpm and count = 1;
    update heart_rate_days set count = count - 1
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162
      and context = coalesce(old.context, '') and bpm = old.bpm and count > 1;

    delete from heart_rate_blocks
    where block = (old.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5
      and context = coalesce(old.context, '') and bpm = old.bpm and count = 1;
    update heart_rate_blocks set count = count - 1
    where block = (old.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5
      and context = coalesce(old.context, '') and bpm = old.bpm and count > 1;

    delete from heart_rate_hours
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888 and count = 1;
    update heart_rate_hours set count = count - 1, sum = sum - old.bpm
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888;

    insert into heart_rate_days
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162, coalesce(new.context, ''), new.bpm, 1)
    on conflict do update set count = count + 1;

    insert into heart_rate_blocks
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162 >> 5, coalesce(new.context, ''), new.bpm, 1)
    on conflict do update set count = count + 1;

    insert into heart_rate_hours
    values ((new.timestamp + 62135596800000000) / 3600000000 - 17259888, 1, new.bpm, new.bpm, new.bpm)
    on conflict do update set
        count = count + 1, sum = sum + excluded.sum,
        min_bpm = min(min_bpm, excluded.min_bpm), max_bpm = max(max_bpm, excluded.max_bpm);

    -- The row has its new values by now, also where both lie in the same hour.
    update heart_rate_hours set (min_bpm, max_bpm) = (
        select min(bpm), max(bpm) from heart_rate_logs
        where timestamp >= (hour + 17259888) * 3600000000 - 62135596800000000
          and timestamp < (hour + 17259889) * 3600000000 - 62135596800000000)
    where hour = (old.timestamp + 62135596800000000) / 3600000000 - 17259888
      and old.bpm in (min_bpm, max_bpm);
end;
