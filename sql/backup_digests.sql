-- Made in backups alone: the digest of each table's rows as they were in the database, so that a
-- change of the file's content is found later. src/store/digest.rs says what is digested.
create table backup_digests (
    table_name text    not null primary key,
    row_count  integer not null,
    sha256     blob    not null check (length(sha256) = 32)
) strict, without rowid
