-- erasure: 0 in use, 1 erased while rows remain, 2 erased. The row stays, with its clock and without its owner: a
-- client may still have a cursor.

alter table vaults
    add column history_bytes bigint not null default 0, -- of ciphertext in the revisions
    add column purged_at bigint,                        -- updated_at of the newest tombstone that was purged
    add column erasure smallint not null default 0
;
