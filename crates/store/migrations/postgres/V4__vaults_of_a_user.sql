create index if not exists vaults_user on vaults (issuer, subject);
