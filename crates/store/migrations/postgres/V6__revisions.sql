-- Replaced versions of records.

create table revisions (
    vault_id uuid not null,
    record_id text collate "C" not null,
    version bigint not null,
    deleted boolean not null,
    ciphertext bytea not null,
    digest bytea not null,
    updated_at bigint not null,
    replaced_at bigint not null,   -- updated_at of the version after it
    replaced_wall bigint not null, -- ms since 1970 by the clock of the server
    primary key (vault_id, record_id, version)
);
