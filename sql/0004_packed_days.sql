-- All readings of a day in one blob, for queries over every single reading of a year. The blob is null
-- while the day is pending: triggers reset it whenever a reading of the day changes, and the idle writer
-- packs pending days that have ended. src/db/packed_days.rs describes the format. Days are those of
-- heart_rate_days; every day with readings has a row.

create table heart_rate_packed_days (
    day      integer primary key,
    readings blob
) strict;

-- Finds the pending days.
create index heart_rate_packed_days_pending on heart_rate_packed_days (day) where readings is null;

insert into heart_rate_packed_days (day) select distinct day from heart_rate_days;

create trigger heart_rate_logs_pending_insert after insert on heart_rate_logs
begin
    insert into heart_rate_packed_days (day)
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162)
    on conflict do update set readings = null where readings is not null;
end;

create trigger heart_rate_logs_pending_delete after delete on heart_rate_logs
begin
    update heart_rate_packed_days set readings = null
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162 and readings is not null;
end;

create trigger heart_rate_logs_pending_update after update on heart_rate_logs
when (old.id, old.timestamp, old.bpm, old.context) is not (new.id, new.timestamp, new.bpm, new.context)
begin
    update heart_rate_packed_days set readings = null
    where day = (old.timestamp + 62135596800000000) / 86400000000 - 719162 and readings is not null;

    insert into heart_rate_packed_days (day)
    values ((new.timestamp + 62135596800000000) / 86400000000 - 719162)
    on conflict do update set readings = null where readings is not null;
end;
