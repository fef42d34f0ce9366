-- The identity of the database: a random id that is created with it and travels in its backups.
-- Retention removes backups with this id alone, and a restore reports a backup with another one.
create table database_identity (
    only_row integer primary key check (only_row = 1),
    id       text    not null check (length(id) = 32)
) strict;

insert into database_identity (only_row, id) values (1, lower(hex(randomblob(16))));
