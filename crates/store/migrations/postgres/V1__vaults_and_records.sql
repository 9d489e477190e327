-- What the columns mean is written beside `push` in src/postgres/push.rs.
-- The same text on PostgreSQL and on Citus, where `vault_id` decides which shard a row is in: so
-- every key begins with it, and there is nothing that would span vaults.

create table vaults (
    vault_id uuid primary key,        -- first bytes of SHA-256(issuer, 0x00, subject)
    issuer text not null,
    subject text not null,
    clock bigint not null,            -- ms since 1970: last updated_at handed out; only grows
    epoch uuid not null,
    receipts bytea not null default '' -- of the last 32 pushes
) with (fillfactor = 50);             -- each push writes this row: room for the new one beside the old

create table records (
    vault_id uuid not null,
    record_id text collate "C" not null,
    version bigint not null check (version > 0),
    deleted boolean not null,
    ciphertext bytea not null,
    updated_at bigint not null,       -- ms since 1970
    primary key (vault_id, record_id),
    -- Serves the pull, and trips on a writer that hands out one millisecond twice.
    constraint records_cursor unique (vault_id, updated_at)
);

-- Ciphertext does not compress, and one that lies outside its row is not read where it is not asked for.
alter table records alter ciphertext set storage external;

-- Tells this database from every other, so that two are never taken for one.
create table deployment (
    only_one boolean primary key default true check (only_one),
    id uuid not null
);

insert into deployment (id) values (gen_random_uuid());
