-- Serves the purge.
create index records_tombstones on records (vault_id, updated_at) where deleted;
