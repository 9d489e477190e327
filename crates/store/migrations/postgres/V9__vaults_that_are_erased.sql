create index if not exists vaults_erasing on vaults (vault_id) where erasure = 1;
