alter table vaults add column history_bytes integer not null default 0; -- of ciphertext in the revisions

alter table vaults add column purged_at integer; -- updated_at of the newest tombstone that was purged

-- Replaced versions of records.
create table revisions (
    vault_key integer not null,
    record_id text not null,
    version integer not null,
    deleted integer not null check (deleted in (0, 1)),
    updated_at integer not null,
    replaced_at integer not null,                     -- updated_at of the version after it
    replaced_wall integer not null,                   -- ms since 1970 by the clock of the server
    digest blob not null check (length(digest) = 16),
    ciphertext blob not null,                         -- last, so that the rest is read without it
    primary key (vault_key, record_id, version)
) strict;

-- Serves the purge.
create index records_tombstones on records (vault_key, updated_at) where deleted = 1;
