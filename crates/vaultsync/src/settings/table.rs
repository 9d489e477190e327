//! Table of all settings.
//!
//! To add a setting, add a row and read it in `mod.rs` or in the file of its group. A row reads
//!
//! ```text
//! "Help."
//! key: Kind, default, further properties;
//! ```
//!
//! A limit is not added here but in `limits.rs` of `vaultsync-server`: its row there is also a row of
//! this table.
//!
//! Not here: the sources of values (`sources.rs`) and their meaning (`mod.rs`).

use std::sync::LazyLock;

use vaultsync_server::{LIMITS, Limit, Unit};

use super::setting::{Group, Kind, Setting};

/// All settings, those of one group together, in the order in which they are shown.
pub(crate) static TABLE: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut table = settings();
    table.extend(LIMITS.iter().map(limit_setting));
    table
});

fn limit_setting(limit: &Limit) -> Setting {
    let (group, unit) = match limit.unit {
        Unit::Bytes => (Group::Limits, "bytes"),
        Unit::Count => (Group::Limits, "count"),
        Unit::Seconds => (Group::Deadlines, "seconds"),
        Unit::PerSecond => (Group::Rates, "per second"),
        Unit::BytesPerSecond => (Group::Rates, "bytes per second"),
    };
    let default = i64::try_from(limit.default).expect("a default fits into TOML");
    let kind = Kind::Number { unit, min: limit.min, max: limit.max };
    Setting::new(group, limit.key, kind, default, limit.help)
}

const NONE: Vec<&str> = Vec::new();

const MILLISECONDS: &str = "milliseconds";

macro_rules! settings {
    ($($group:ident {$(
        $help:literal
        $key:ident: $kind:expr, $default:expr $(, $property:ident($($value:literal)?))*;
    )*})*) => {
        fn settings() -> Vec<Setting> {
            use Kind::{AutoSwitch, Keys, List, Number, Switch, Text, Urls};
            vec![$($(
                Setting::new(Group::$group, stringify!($key), $kind, $default, $help)
                    $(.$property($($value)?))*,
            )*)*]
        }
    };
}

settings! {
    Server {
        "Address of the API. It is plain HTTP: put a reverse proxy with TLS in front of it."
        listen: Text("ADDRESS:PORT"), "127.0.0.1:8787";

        "Address of the metrics. They need no sign-in: keep the address private. `off` disables them."
        admin_listen: Text("ADDRESS:PORT|off"), "127.0.0.1:9464";

        "Folder for the SQLite database, the local issuer's key and the key that hashes record ids in logs."
        data_dir: Text("PATH"), "./vaultsync-data";

        "Whether the server accepts tokens from `vaultsync token`. `auto` accepts them if neither Clerk nor OpenID Connect is configured; if `listen` is then not a loopback address, the server starts only with `true`."
        local_issuer: AutoSwitch, "auto";

        "Proxies whose `X-Forwarded-For` header is trusted: networks or single addresses."
        trusted_proxies: List("CIDR"), NONE, if_empty("none");

        "Web origins that may call the API: exactly `scheme://host` or `scheme://host:port`."
        cors_origins: List("ORIGIN"), NONE, if_empty("none");

        "Page that documents the codes of errors, such as a copy of `docs/PROTOCOL.md`: responses that report an error then have a link to it, with `#error-CODE` at the end."
        docs_url: Text("URL"), "", if_empty("no links");

        "Log filter: a level, or directives such as `info,vaultsync_store=debug`."
        log: Text("FILTER"), "info";

        "Log format. `auto` is text on a terminal and JSON otherwise."
        log_format: Text("auto|text|json"), "auto";
    }

    Database {
        "Database. The path of an SQLite file is relative to the working directory. Several PostgreSQL addresses must lead to the same database: they are nodes of a Citus cluster."
        database: Urls("sqlite:PATH|postgres://USER:PASSWORD@HOST:PORT/NAME"), NONE,
            if_empty("SQLite file `vaultsync.sqlite3` in `data_dir`"), or_env("DATABASE_URL"), or_file();

        "PostgreSQL: replicas that pulls may read from. They may lag behind the database."
        read_database: Urls("postgres://USER:PASSWORD@HOST:PORT/NAME"), NONE,
            if_empty("pulls read from `database`"), or_file();

        "PostgreSQL: maximum number of open connections to each address."
        database_connections_max: Number { unit: "count", min: 1, max: 10_000 }, 10;

        "PostgreSQL: time for one push or pull, in milliseconds; a large one gets longer. If the database is unavailable, a client receives the error within this time."
        database_timeout_ms: Number { unit: MILLISECONDS, min: 100, max: 60_000 }, 2000;

        "PostgreSQL: whether each connection prepares its statements once. Set `false` behind a PgBouncer before 1.21 in transaction mode, which loses prepared statements."
        database_prepare: Switch, true;

        "PostgreSQL: whether the server migrates the schema when it starts. Set `false` if the server's role may not do that, and run `vaultsync migrate`."
        database_migrate: Switch, true;

        "PostgreSQL: whether the server uses a database with `fsync=off` or `synchronous_commit=off`, which can lose acknowledged writes."
        database_allow_unsafe: Switch, false;

        "PostgreSQL: address through which nodes notify each other of changes with NOTIFY. It must be the same for all nodes and bypass any pooler. `off` disables notifications."
        notify_database: Urls("postgres://USER:PASSWORD@HOST:PORT/NAME|off"), NONE,
            if_empty("the first address of `database`; off with `nats_url`"), or_file();

        "PostgreSQL: NATS servers through which nodes notify each other of changes instead of NOTIFY. Use `tls://` for TLS."
        nats_url: Urls("nats://USER:PASSWORD@HOST:PORT"), NONE, if_empty("none"), or_file();
    }

    Clerk {
        "Publishable key of the Clerk instance. The issuer and the URL of its keys follow from it."
        clerk_publishable_key: Text("pk_..."), "", if_empty("none");

        "Issuer of Clerk's tokens: the claim `iss`, byte for byte."
        clerk_issuer: Text("URL"), "", if_empty("the domain of `clerk_publishable_key`");

        "Public keys of the instance in PEM, one after the other. If they are set, no key is fetched over the network."
        clerk_jwt_key: Keys, "", if_empty("fetched from `clerk_jwks_url`"), or_file();

        "URL of the instance's keys."
        clerk_jwks_url: Text("URL"), "",
            if_empty("`/.well-known/jwks.json` of the publishable key's domain or of the issuer; none with `clerk_jwt_key`");

        "Web origins whose tokens are accepted: exact values of the claim `azp`."
        clerk_authorized_parties: List("ORIGIN"), NONE, if_empty("all origins of the instance");

        "Whether tokens without `azp` are accepted although `clerk_authorized_parties` is set. Native apps need it."
        clerk_allow_missing_azp: Switch, false;

        "Whether tokens of an administrator who impersonates the user (the claim `act`) are accepted."
        clerk_allow_impersonation: Switch, false;

        "Accepted audiences. A token with the claim `aud` must name one of them."
        clerk_audience: List("AUDIENCE"), NONE, if_empty("any");

        "Maximum difference between the clocks of Clerk and of this server, in milliseconds."
        clerk_clock_skew_ms: Number { unit: MILLISECONDS, min: 0, max: 60_000 }, 5000;
    }

    Oidc {
        "Issuer of the provider's tokens: the claim `iss`, byte for byte. Requires `oidc_audience`."
        oidc_issuer: Text("URL"), "", if_empty("none");

        "Accepted audiences. A token must name one of them in the claim `aud`."
        oidc_audience: List("AUDIENCE"), NONE, if_empty("none");

        "URL of the provider's keys."
        oidc_jwks_url: Text("URL"), "", if_empty("from the issuer's `/.well-known/openid-configuration`");

        "Accepted signature algorithms, out of RS256, PS256, ES256 and EdDSA."
        oidc_algorithms: List("ALGORITHM"), vec!["RS256"];

        "Maximum difference between the clocks of the provider and of this server, in milliseconds."
        oidc_clock_skew_ms: Number { unit: MILLISECONDS, min: 0, max: 60_000 }, 5000;
    }
}
