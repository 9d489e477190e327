alter table vaults add column history_bytes integer not null default 0; -- of ciphertext in the revisions

alter table vaults add column purged_at integer; -- updated_at of the newest tombstone that was purged

-- 0 in use, 1 erased while rows remain, 2 erased. The row stays, with its clock and without its owner: a client
-- may still have a cursor.
alter table vaults add column erasure integer not null default 0 check (erasure in (0, 1, 2));

create index vaults_erasing on vaults (vault_id) where erasure = 1;

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

-- Epochs that no vault will ever have again. By vault_id, because backups and other databases know no other key.
create table erased_epochs (
    vault_id blob not null check (length(vault_id) = 16),
    epoch blob not null check (length(epoch) = 16),
    erased_at integer not null,                       -- ms since 1970 by the clock of the server
    primary key (vault_id, epoch)
) strict, without rowid;

-- Vaults that `vaultsync user erase` asks the running server to erase: only the server changes their rows.
create table erase_requests (
    vault_id blob not null check (length(vault_id) = 16),
    epoch blob not null check (length(epoch) = 16), -- a history that begins meanwhile is not erased
    primary key (vault_id, epoch)
) strict, without rowid;
