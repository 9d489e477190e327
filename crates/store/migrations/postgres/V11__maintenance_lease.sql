-- One node at a time removes what is no longer kept.
alter table deployment add column maintained_until bigint; -- ms since 1970 by the clock of the server
