-- Serves the purge.
create index if not exists records_tombstones on records (vault_id, updated_at) where deleted;
