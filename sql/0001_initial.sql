-- Initial schema. Timestamps are microseconds since 1970 (UTC), between the years 1 and 9999.

create table coffee_logs (
    -- autoincrement: the id of a deleted coffee is never given again, a phone may hold it.
    id          integer primary key autoincrement,
    timestamp   integer not null check (timestamp between -62135596800000000 and 253402207200000000),
    caffeine_mg real    not null check (caffeine_mg >= 0 and caffeine_mg <= 1e6),
    coffee_type text    check (length(coffee_type) between 1 and 100),
    notes       text    check (length(notes) between 1 and 1000),
    -- Where an imported entry came from; null: the API.
    source      text    check (length(source) between 1 and 200)
) strict;

-- Order of lists, with the id as tie-breaker. Covers daily totals, statistics and the caffeine model.
create index coffee_logs_by_time on coffee_logs (timestamp, id, caffeine_mg, coffee_type);
-- Lists filtered by type; the user's types with their last use.
create index coffee_logs_by_type on coffee_logs (coffee_type, timestamp);

create table heart_rate_logs (
    id        integer primary key autoincrement,
    timestamp integer not null check (timestamp between -62135596800000000 and 253402207200000000),
    bpm       integer not null check (bpm between 1 and 1000),
    context   text    check (length(context) between 1 and 50),
    notes     text    check (length(notes) between 1 and 1000),
    source    text    check (length(source) between 1 and 200)
) strict;

-- Order of lists, with the id as tie-breaker. Covers ranges, statistics and the correlation.
create index heart_rate_logs_by_time on heart_rate_logs (timestamp, id, bpm, context);
-- Lists filtered by context, including rare contexts among millions of readings.
create index heart_rate_logs_by_context on heart_rate_logs (context, timestamp);

-- Responses to requests with an Idempotency-Key: a repeated request gets the first response and stores
-- nothing. Kept for 30 days of the server's running time.
create table idempotency_keys (
    route       text    not null,
    key         text    not null check (length(key) between 1 and 255),
    -- SHA-256 of what was asked: another body under the same key is refused.
    fingerprint blob    not null check (length(fingerprint) = 32),
    entry_id    integer not null,
    answer      text    not null,
    created_at  integer not null,
    primary key (route, key)
) strict, without rowid;

-- Finds expired responses.
create index idempotency_keys_by_age on idempotency_keys (created_at);

-- Views for SQL shells: the same rows with readable times.
create view coffees as
    select id, strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1e6, 'unixepoch') as time,
           caffeine_mg, coffee_type, notes, source
    from coffee_logs;

create view heart_rates as
    select id, strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1e6, 'unixepoch') as time,
           bpm, context, notes, source
    from heart_rate_logs;
