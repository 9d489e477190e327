//! Every setting there is, once.
//!
//! Not here: how a value is found (`layers.rs`) and what it means (`mod.rs`).

use super::setting::{Group, Kind, Setting};

/// Names each setting and lists them all, so that a setting cannot be read and yet be missing from
/// the list.
macro_rules! table {
    ($($name:ident = $setting:expr;)*) => {
        $(pub(crate) const $name: Setting = $setting;)*

        /// Every setting, in the order in which they are shown.
        pub(crate) const TABLE: &[Setting] = &[$($name),*];
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Number { unit: "BYTES", min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Number { unit: "COUNT", min, max }
}

/// An hour is longer than any of these deadlines can usefully be; zero would refuse everybody.
const SECONDS: Kind = Kind::Number { unit: "SECONDS", min: 1, max: 3600 };

const RATE: Kind = Kind::Number { unit: "PER_SECOND", min: 0, max: 1_000_000 };

table! {
    LISTEN = Setting::new(
        "listen", Group::Server, Kind::Text("ADDRESS:PORT"), "127.0.0.1:8787",
        "Where the API listens. It speaks plain HTTP: put a reverse proxy with TLS before it.",
    );
    ADMIN_LISTEN = Setting::new(
        "admin_listen", Group::Server, Kind::Text("ADDRESS:PORT|off"), "127.0.0.1:9464",
        "Where metrics are served, without sign-in: keep it private. `off` serves none.",
    );
    DATA_DIR = Setting::new(
        "data_dir", Group::Server, Kind::Text("PATH"), "./vaultsync-data",
        "The folder of the database and of the local issuer's key.",
    );
    LOCAL_ISSUER = Setting::new(
        "local_issuer", Group::Server, Kind::AutoSwitch, "auto",
        "Whether the server accepts tokens that `vaultsync token` mints. `auto` accepts them where neither Clerk nor OpenID Connect is set. Where `listen` is not a loopback address, only `true` does.",
    );
    TRUSTED_PROXIES = Setting::new(
        "trusted_proxies", Group::Server, Kind::List("CIDR"), "",
        "The proxies whose X-Forwarded-For counts: networks, or single addresses.",
    )
    .unset("none");
    CORS_ORIGINS = Setting::new(
        "cors_origins", Group::Server, Kind::List("ORIGIN"), "",
        "The web origins that may call the API: scheme://host or scheme://host:port, exactly.",
    )
    .unset("none");
    LOG = Setting::new(
        "log", Group::Server, Kind::Text("FILTER"), "info",
        "What is logged: a level, or directives such as `info,vaultsync_store=debug`.",
    );
    LOG_FORMAT = Setting::new(
        "log_format", Group::Server, Kind::Text("auto|text|json"), "auto",
        "How it is logged. `auto` is text on a terminal and JSON elsewhere.",
    );

    DATABASE = Setting::new(
        "database", Group::Database, Kind::Urls("sqlite:PATH|postgres://USER:PASSWORD@HOST:PORT/NAME"), "",
        "The database. A relative path is relative to the working directory. Of PostgreSQL several addresses may be given, which must lead to the same database: nodes of a Citus cluster.",
    )
    .unset("sqlite file vaultsync.sqlite3 in data_dir").or_env("DATABASE_URL").or_file();
    READ_DATABASE = Setting::new(
        "read_database", Group::Database, Kind::Urls("postgres://USER:PASSWORD@HOST:PORT/NAME"), "",
        "Replicas of the PostgreSQL database that pulls may read from. They may lag behind it.",
    )
    .unset("pulls read where pushes write").or_file();
    DATABASE_CONNECTIONS_MAX = Setting::new(
        "database_connections_max", Group::Database, count(1, 10_000), "10",
        "PostgreSQL: connections open at a time, for each address.",
    );
    DATABASE_TIMEOUT_MS = Setting::new(
        "database_timeout_ms", Group::Database,
        Kind::Number { unit: "MILLISECONDS", min: 100, max: 60_000 }, "2000",
        "PostgreSQL: how long one push or pull may take, a large one longer. A client is told within this that the database is gone.",
    );
    DATABASE_PREPARE = Setting::new(
        "database_prepare", Group::Database, Kind::Switch, "true",
        "PostgreSQL: prepare statements once for each connection. Say `false` behind a PgBouncer before 1.21 in transaction mode, which loses them.",
    );
    DATABASE_MIGRATE = Setting::new(
        "database_migrate", Group::Database, Kind::Switch, "true",
        "PostgreSQL: bring the tables up to date at start. Say `false` where the server's role may not, and run `vaultsync migrate`.",
    );
    DATABASE_ALLOW_UNSAFE = Setting::new(
        "database_allow_unsafe", Group::Database, Kind::Switch, "false",
        "PostgreSQL: serve from a database with fsync=off or synchronous_commit=off, which can lose what it acknowledged.",
    );
    NOTIFY_DATABASE = Setting::new(
        "notify_database", Group::Database, Kind::Urls("postgres://USER:PASSWORD@HOST:PORT/NAME|off"), "",
        "PostgreSQL: the address by which nodes tell each other of changes with NOTIFY, the same for all of them and past any pooler. `off`: they do not.",
    )
    .unset("the first `database`; off with nats_url").or_file();
    NATS_URL = Setting::new(
        "nats_url", Group::Database, Kind::Urls("nats://USER:PASSWORD@HOST:PORT"), "",
        "PostgreSQL: the NATS servers by which nodes tell each other of changes, and not with NOTIFY. `tls://` for TLS.",
    )
    .unset("none").or_file();

    CLERK_PUBLISHABLE_KEY = Setting::new(
        "clerk_publishable_key", Group::Clerk, Kind::Text("pk_..."), "",
        "The publishable key of the Clerk instance. Issuer and key URL follow from it.",
    );
    CLERK_ISSUER = Setting::new(
        "clerk_issuer", Group::Clerk, Kind::Text("URL"), "",
        "The issuer that Clerk's tokens name, byte for byte.",
    )
    .unset("the publishable key's domain");
    CLERK_JWT_KEY = Setting::new(
        "clerk_jwt_key", Group::Clerk, Kind::Keys, "",
        "The public keys of the instance in PEM, several one after the other. With them no key is fetched over the network.",
    )
    .unset("fetched from clerk_jwks_url").or_file();
    CLERK_JWKS_URL = Setting::new(
        "clerk_jwks_url", Group::Clerk, Kind::Text("URL"), "",
        "Where the instance's keys are fetched.",
    )
    .unset("/.well-known/jwks.json of the publishable key's domain or the issuer; none with clerk_jwt_key");
    CLERK_AUTHORIZED_PARTIES = Setting::new(
        "clerk_authorized_parties", Group::Clerk, Kind::List("ORIGIN"), "",
        "The web origins whose tokens are accepted (the claim `azp`), exactly.",
    )
    .unset("every origin of the instance");
    CLERK_ALLOW_MISSING_AZP = Setting::new(
        "clerk_allow_missing_azp", Group::Clerk, Kind::Switch, "false",
        "Accept tokens without `azp` though clerk_authorized_parties is set. Native apps need it.",
    );
    CLERK_ALLOW_IMPERSONATION = Setting::new(
        "clerk_allow_impersonation", Group::Clerk, Kind::Switch, "false",
        "Accept tokens of an administrator who acts as the user (the claim `act`).",
    );
    CLERK_AUDIENCE = Setting::new(
        "clerk_audience", Group::Clerk, Kind::List("AUDIENCE"), "",
        "The audiences of which a token's `aud` must name one, where the token has an `aud`.",
    )
    .unset("any");
    CLERK_CLOCK_SKEW_MS = Setting::new(
        "clerk_clock_skew_ms", Group::Clerk,
        Kind::Number { unit: "MILLISECONDS", min: 0, max: 60_000 }, "5000",
        "How far the clocks of Clerk and of this server may differ.",
    );

    OIDC_ISSUER = Setting::new(
        "oidc_issuer", Group::Oidc, Kind::Text("URL"), "",
        "The issuer that the provider's tokens name, byte for byte. Needs oidc_audience.",
    );
    OIDC_AUDIENCE = Setting::new(
        "oidc_audience", Group::Oidc, Kind::List("AUDIENCE"), "",
        "The audiences of which a token's `aud` must name one.",
    );
    OIDC_JWKS_URL = Setting::new(
        "oidc_jwks_url", Group::Oidc, Kind::Text("URL"), "",
        "Where the provider's keys are fetched.",
    )
    .unset("as the issuer's /.well-known/openid-configuration says");
    OIDC_ALGORITHMS = Setting::new(
        "oidc_algorithms", Group::Oidc, Kind::List("ALGORITHM"), "RS256",
        "The signature algorithms accepted: RS256, PS256, ES256, EdDSA.",
    );

    CIPHERTEXT_BYTES_MAX = Setting::new(
        "ciphertext_bytes_max", Group::Limits, bytes(1, GIB), "1048576",
        "One record's ciphertext, decoded.",
    );
    BODY_BYTES_MAX = Setting::new(
        "body_bytes_max", Group::Limits, bytes(KIB, GIB), "16777216",
        "One request's body. One record of ciphertext_bytes_max must fit into it.",
    );
    PAGE_BYTES_MAX = Setting::new(
        "page_bytes_max", Group::Limits, bytes(KIB, GIB), "8388608",
        "The ciphertext of one page of a pull. A page holds one record even where it is larger.",
    );
    // An HTTP/1 connection cannot be given less than 8 KiB to buffer a request's head in.
    HEADER_BYTES_MAX = Setting::new(
        "header_bytes_max", Group::Limits, bytes(8 * KIB, MIB), "32768",
        "The request line and all headers together.",
    );
    TOKEN_BYTES_MAX = Setting::new(
        "token_bytes_max", Group::Limits, bytes(256, MIB), "8192",
        "One bearer token. Less than header_bytes_max.",
    );
    MEMORY_BYTES_MAX = Setting::new(
        "memory_bytes_max", Group::Limits, bytes(2 * KIB, 1024 * GIB), "268435456",
        "Bodies and answers in flight, all requests together: at least two bodies and two pages.",
    );
    MEMORY_BYTES_PER_USER_MAX = Setting::new(
        "memory_bytes_per_user_max", Group::Limits, bytes(2 * KIB, 1024 * GIB), "67108864",
        "Bodies and answers of one user in flight: at least two bodies and two pages.",
    );
    CONNECTIONS_MAX = Setting::new(
        "connections_max", Group::Limits, count(1, 1_000_000), "10000",
        "Connections open at a time.",
    );
    WAITS_PER_USER_MAX = Setting::new(
        "waits_per_user_max", Group::Limits, count(0, 10_000), "10",
        "Waiting pulls and event streams of one user at a time.",
    );

    FIRST_BYTE_SECONDS = Setting::new(
        "first_byte_seconds", Group::Deadlines, SECONDS, "10",
        "From accepting a connection to its first byte.",
    );
    HEADER_SECONDS = Setting::new(
        "header_seconds", Group::Deadlines, SECONDS, "10",
        "From a request's first byte to the end of its headers.",
    );
    BODY_SECONDS = Setting::new(
        "body_seconds", Group::Deadlines, SECONDS, "30",
        "From the end of the headers to the end of the body. A body that takes longer at 1 MiB/s gets that long.",
    );
    HANDLER_SECONDS = Setting::new(
        "handler_seconds", Group::Deadlines, SECONDS, "10",
        "From the end of the body to the answer, the time of a `wait` not counted.",
    );
    WRITE_STALL_SECONDS = Setting::new(
        "write_stall_seconds", Group::Deadlines, SECONDS, "30",
        "A write that makes no progress.",
    );
    IDLE_SECONDS = Setting::new(
        "idle_seconds", Group::Deadlines, SECONDS, "60",
        "A connection without a request.",
    );
    // Zero ends a stream with its token.
    STREAM_GRACE_SECONDS = Setting::new(
        "stream_grace_seconds", Group::Deadlines,
        Kind::Number { unit: "SECONDS", min: 0, max: 3600 }, "300",
        "From the expiry of a token to the end of the event streams that were opened with it.",
    );
    DRAIN_SECONDS = Setting::new(
        "drain_seconds", Group::Deadlines, SECONDS, "20",
        "From the signal to stop until requests in flight are cut.",
    );

    RATE_LIMIT = Setting::new(
        "rate_limit", Group::Rates, RATE, "100",
        "Requests a second for each user; the burst is three times that. 0 turns every rate off.",
    );
    RATE_LIMIT_ADDRESS = Setting::new(
        "rate_limit_address", Group::Rates, RATE, "500",
        "Requests a second for each address, before sign-in; the burst is three times that.",
    );
    RATE_LIMIT_SIGN_IN_FAILURES = Setting::new(
        "rate_limit_sign_in_failures", Group::Rates, RATE, "20",
        "Failed sign-ins a second for each address; the burst is three times that.",
    );
}
