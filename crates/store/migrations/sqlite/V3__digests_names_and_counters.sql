-- Records get short keys: an integer for the vault, in place of its 16 bytes, in both indexes. With random
-- record ids the indexes are what a write costs.

create table vaults_with_keys (
    vault_key integer primary key,
    vault_id blob not null unique check (length(vault_id) = 16), -- first bytes of a SHA-256, see src/vault.rs
    clock integer not null,                                      -- ms since 1970: last updated_at assigned; only grows
    epoch blob not null check (length(epoch) = 16),
    live_records integer not null default 0,                     -- records that are no tombstones
    record_rows integer not null default 0,                      -- records and tombstones
    bytes integer not null default 0,                            -- of ciphertext, tombstones included
    name text not null default '',                               -- empty for the user's default vault
    issuer text not null,
    subject text not null,
    receipts blob not null default x''                           -- of the last 32 pushes; last, so that the rest is read without it
) strict;

-- The counters begin at 0: src/sqlite/upgrade.rs adds each record when it moves it.
insert into vaults_with_keys (vault_id, clock, epoch, issuer, subject, receipts)
select vault_id, clock, epoch, issuer, subject, receipts from vaults;

drop table vaults;

alter table vaults_with_keys rename to vaults;

create index vaults_user on vaults (issuer, subject);

-- Moved to the new table by src/sqlite/upgrade.rs, batch by batch, so that the file does not grow to twice its
-- size.
alter table records rename to records_before_digests;

drop index records_cursor;

create table records (
    vault_key integer not null,
    record_id text not null,
    version integer not null check (version > 0),
    deleted integer not null check (deleted in (0, 1)),
    updated_at integer not null,                         -- ms since 1970
    digest blob not null check (length(digest) = 16),    -- first bytes of SHA-256(ciphertext)
    created_at integer,                                  -- updated_at of version 1; null if it is not known
    written_at integer,                                  -- ms since 1970 by the clock of the server; null if it is not known
    ciphertext blob not null,                            -- last, so that the rest is read without it
    primary key (vault_key, record_id)
) strict;

-- Serves the pull, and trips on a writer that hands out one millisecond twice.
create unique index records_cursor on records (vault_key, updated_at);
