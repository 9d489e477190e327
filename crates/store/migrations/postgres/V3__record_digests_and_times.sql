-- The check stops writes of nodes of the version before, which would leave a stale digest beside a new
-- ciphertext, and would ignore guards. They answer 503 until they are replaced, and their pulls go on. It is
-- validated once src/postgres/backfill.rs has filled the digests of older rows.

alter table records
    add column digest bytea,      -- first 16 bytes of SHA-256(ciphertext)
    add column created_at bigint, -- updated_at of version 1; null if it is not known
    add column written_at bigint, -- ms since 1970 by the clock of the server; null if it is not known
    add constraint records_digest check (digest is not null) not valid
;
