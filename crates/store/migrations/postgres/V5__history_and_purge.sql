alter table vaults
    add column history_bytes bigint not null default 0, -- of ciphertext in the revisions
    add column purged_at bigint                         -- updated_at of the newest tombstone that was purged
;
