-- The vaults' rows apart from their index. With its receipts a row is longer than an index keeps of an
-- entry in its pages, so that every search read whole rows from elsewhere to compare their keys.

create table vaults_by_rowid (
    vault_id blob primary key not null check (length(vault_id) = 16), -- first bytes of SHA-256(issuer, 0x00, subject)
    clock integer not null,                                           -- ms since 1970: last updated_at handed out; only grows
    epoch blob not null check (length(epoch) = 16),
    issuer text not null,
    subject text not null,
    receipts blob not null default x''                                -- of the last 32 pushes; last, so that the rest is read without it
) strict;

insert into vaults_by_rowid (vault_id, clock, epoch, issuer, subject, receipts)
select vault_id, clock, epoch, issuer, subject, receipts from vaults;

drop table vaults;

alter table vaults_by_rowid rename to vaults;
