-- Where entries come from, and samples that must not come back.

-- Apps and devices by kind of entry, with the time of the newest entry that each delivered.
create table sources (
    kind      text    not null check (kind in ('coffee', 'heartrate')),
    name      text    not null check (length(name) between 1 and 200),
    newest_at integer not null check (newest_at between -62135596800000000 and 253402207200000000),
    primary key (kind, name)
) strict, without rowid;

-- Lists of sources, newest first.
create index sources_by_time on sources (kind, newest_at);

-- Samples of apps and devices that the user has deleted or changed, with their values before that: apps
-- send the same samples again and again.
create table tombstones (
    kind      text    not null check (kind in ('coffee', 'heartrate')),
    timestamp integer not null check (timestamp between -62135596800000000 and 253402207200000000),
    source    text    not null check (length(source) between 1 and 200),
    amount    real    not null,
    context   text,
    primary key (kind, timestamp, source, amount)
) strict, without rowid;

-- The sources of the last 30 days with entries; all readings of many years would take minutes on a small machine.
insert into sources (kind, name, newest_at)
select 'heartrate', source, max(timestamp) from heart_rate_logs indexed by heart_rate_logs_by_time
where source is not null
  and timestamp >= (select max(timestamp) from heart_rate_logs indexed by heart_rate_logs_by_time) - 2592000000000
group by source;

insert into sources (kind, name, newest_at)
select 'coffee', source, max(timestamp) from coffee_logs indexed by coffee_logs_by_time
where source is not null
  and timestamp >= (select max(timestamp) from coffee_logs indexed by coffee_logs_by_time) - 2592000000000
group by source;
