create index vaults_user on vaults (issuer, subject);
