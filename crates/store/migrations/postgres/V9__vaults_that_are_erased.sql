create index vaults_erasing on vaults (vault_id) where erasure = 1;
