//! TLS to the database, with certificates made for the test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use vaultsync_test_servers::PostgresServer;

use crate::dsl::{applied, by, open, try_open, user};

/// An authority, in PEM, and a server's certificate and key for `name` that it signed.
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
async fn the_server_is_checked_as_far_as_sslmode_says() {
    let (authority, certificate, key) = certificates("db.example");
    let (stranger, _, _) = certificates("db.example");
    let folder = tempfile::tempdir().expect("a folder");
    let root = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path.display().to_string()
    };
    let (root, stranger) = (root("root.pem", &authority), root("stranger.pem", &stranger));
    let server = PostgresServer::start();
    server.put_file("server.crt", certificate);
    server.put_file("server.key", key);
    server.put_file("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
    server.configure(&[("ssl", "on")]);
    server.stop();
    server.start_again();
    let port = server.port();
    // Of two names for one address, the certificate has one.
    let named = format!("postgres://postgres@db.example:{port}/postgres?hostaddr=127.0.0.1");
    let unnamed = format!("postgres://postgres@127.0.0.1:{port}/postgres?");

    for (url, is_taken) in [
        (format!("{named}&sslmode=verify-full&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=verify-full&sslrootcert={root}"), false),
        (format!("{named}&sslmode=verify-full&sslrootcert={stranger}"), false),
        (format!("{named}&sslmode=verify-full&sslrootcert=system"), false),
        (format!("{named}&sslmode=verify-full"), false),
        (format!("{unnamed}&sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=verify-ca&sslrootcert={stranger}"), false),
        (format!("{unnamed}&sslmode=require"), true),
        (format!("{unnamed}&sslmode=require&sslrootcert={root}"), true),
        (format!("{unnamed}&sslmode=require&sslrootcert={stranger}"), false),
        (format!("{unnamed}&sslmode=prefer"), true),
        (unnamed.clone(), true),
        (format!("{unnamed}&sslmode=disable"), false),
        (format!("{unnamed}&sslmode=verify-full&sslrootcert=/nowhere.pem"), false),
    ] {
        let opened = try_open(by(vec![url.parse().expect(&url)])).await;
        assert_eq!(opened.is_ok(), is_taken, "{url}: {opened:?}");
    }
    let url = format!("{named}&sslmode=verify-full&sslrootcert={root}");
    let store = open(by(vec![url.parse().expect("an address")])).await;
    applied(&store, &user(), &[("r", None, "v1")]).await;
}
