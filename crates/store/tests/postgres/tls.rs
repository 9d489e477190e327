//! TLS to the database, with certificates made for the test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use vaultsync_test_servers::PostgresServer;

use crate::dsl::{open, options_for, push_applied, try_open, user};

/// A certificate authority, and a server's certificate and key for `name` that it signed, in PEM.
fn certificates(name: &str) -> (String, String, String) {
    let mut authority = CertificateParams::new(vec![]).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let server = server.signed_by(&key, &authority).expect("a certificate");
    (authority.pem(), server.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_decides_how_the_server_is_verified() {
    let (authority, certificate, key) = certificates("db.example");
    let (other, _, _) = certificates("db.example");
    let folder = tempfile::tempdir().expect("a folder");
    let root = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path.display().to_string()
    };
    let (root, other) = (root("root.pem", &authority), root("other.pem", &other));
    let server = PostgresServer::start();
    server.put_file("server.crt", certificate);
    server.put_file("server.key", key);
    server.put_file("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
    server.configure(&[("ssl", "on")]);
    server.stop();
    server.start_again();
    let port = server.port();
    // Two URLs of the same server: the certificate has only the first one's host name.
    let named = format!("postgres://postgres@db.example:{port}/postgres?hostaddr=127.0.0.1");
    let unnamed = format!("postgres://postgres@127.0.0.1:{port}/postgres?");

    for (url, is_accepted) in [
        (format!("{named}&sslmode=verify-full&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=verify-full&sslrootcert={root}"), false),
        (format!("{named}&sslmode=verify-full&sslrootcert={other}"), false),
        (format!("{named}&sslmode=verify-full&sslrootcert=system"), false),
        (format!("{named}&sslmode=verify-full"), false),
        (format!("{unnamed}&sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=verify-ca&sslrootcert={other}"), false),
        (format!("{unnamed}&sslmode=require"), true),
        (format!("{unnamed}&sslmode=require&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=require&sslrootcert={other}"), false),
        (format!("{unnamed}&sslmode=prefer"), true),
        (unnamed.clone(), true),
        (format!("{unnamed}&sslmode=disable"), false),
        (format!("{unnamed}&sslmode=verify-full&sslrootcert=/nowhere.pem"), false),
    ] {
        let opened = try_open(options_for(vec![url.parse().expect(&url)])).await;
        assert_eq!(opened.is_ok(), is_accepted, "{url}: {opened:?}");
    }
    let url = format!("{named}&sslmode=verify-full&sslrootcert={root}");
    let store = open(options_for(vec![url.parse().expect("an address")])).await;
    push_applied(&store, &user(), &[("r", None, "v1")]).await;
}
