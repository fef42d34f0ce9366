-- Values that the person has set, in at most one row; null is the default, a setting of the server.

create table profile (
    id                 integer primary key check (id = 1),
    bedtime            text check (bedtime glob '[01][0-9]:[0-5][0-9]' or bedtime glob '2[0-3]:[0-5][0-9]'),
    half_life_hours    real check (half_life_hours between 1 and 24),
    sleep_threshold_mg real check (sleep_threshold_mg between 1 and 1000),
    usual_dose_mg      real check (usual_dose_mg between 1 and 1000),
    daily_limit_mg     real check (daily_limit_mg between 1 and 100000)
) strict;
