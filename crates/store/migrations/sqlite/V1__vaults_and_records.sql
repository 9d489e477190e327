-- What the columns mean is written beside `push` in src/sqlite/push.rs.

create table vaults (
    vault_id blob primary key check (length(vault_id) = 16), -- first bytes of SHA-256(issuer, 0x00, subject)
    issuer text not null,
    subject text not null,
    clock integer not null,                                  -- ms since 1970: last updated_at handed out; only grows
    epoch blob not null check (length(epoch) = 16),
    receipts blob not null default x''                       -- of the last 32 pushes
) strict, without rowid;

create table records (
    vault_id blob not null,
    record_id text not null,
    version integer not null check (version > 0),
    deleted integer not null check (deleted in (0, 1)),
    updated_at integer not null,                             -- ms since 1970
    ciphertext blob not null,                                -- last, so that the rest is read without it
    primary key (vault_id, record_id)
) strict;

-- Serves the pull, and trips on a writer that hands out one millisecond twice.
create unique index records_cursor on records (vault_id, updated_at);
