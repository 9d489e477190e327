-- The counters are of all rows of the vault; null until they have been counted, which src/postgres/backfill.rs
-- does for vaults that are older than this migration.

alter table vaults
    add column name text not null default '', -- empty for the user's default vault
    add column live_records bigint,           -- records that are no tombstones
    add column record_rows bigint,            -- records and tombstones
    add column bytes bigint                   -- of ciphertext, tombstones included
;
