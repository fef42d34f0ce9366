-- Random id of the database, which its backups carry. Retention removes only backups with this id, and a
-- restore reports a backup with a different one.
create table database_identity (
    only_row integer primary key check (only_row = 1),
    id       text    not null check (length(id) = 32)
) strict;

insert into database_identity (only_row, id) values (1, lower(hex(randomblob(16))));
