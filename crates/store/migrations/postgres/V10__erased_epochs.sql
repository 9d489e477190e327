-- Epochs that no vault will ever have again.

create table erased_epochs (
    vault_id uuid not null,
    epoch uuid not null,
    erased_at bigint not null, -- ms since 1970 by the clock of the server
    primary key (vault_id, epoch)
);
