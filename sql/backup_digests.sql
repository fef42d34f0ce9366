-- Exists only in backups: digests of each table's rows at the time of the backup, which reveal later changes
-- of the file's content. src/backup/content_digest.rs describes them.
create table backup_digests (
    table_name text    not null primary key,
    row_count  integer not null,
    sha256     blob    not null check (length(sha256) = 32)
) strict, without rowid
