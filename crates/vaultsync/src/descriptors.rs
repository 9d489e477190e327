//! The limit of open files: raised at start, and divided between connections and everything else.
//!
//! Without a file descriptor, the system accepts no connection: its client would wait in silence, even for
//! `/healthz`. Some are therefore kept for the database, for the server itself, and to refuse connections.

use anyhow::ensure;
use vaultsync_server::{ADMIN_CONNECTIONS_MAX, Limits, refusals_max};

/// Descriptors of the server itself: standard streams, log, listeners, runtimes, name resolution, and
/// connections to issuers.
const OWN_FILES: usize = 28;

/// The fewest connections that are worth serving.
const CONNECTIONS_MIN: usize = 4;

/// Raises the limit of open files as far as the process may, and returns it. `None` if there is none.
#[cfg(unix)]
pub(crate) fn raise_limit() -> Option<usize> {
    let raised = rlimit::increase_nofile_limit(rlimit::INFINITY).or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft)
    });
    raised.ok().filter(|limit| *limit != rlimit::INFINITY).and_then(|limit| limit.try_into().ok())
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> Option<usize> {
    None
}

/// Lowers the limit of connections to what the limit of open files leaves, and logs a warning if that is
/// less.
pub(crate) fn cap_connections(
    limits: &mut Limits,
    files_max: Option<usize>,
    store_files: usize,
) -> anyhow::Result<()> {
    let Some(files_max) = files_max else { return Ok(()) };
    let reserved = OWN_FILES + ADMIN_CONNECTIONS_MAX + store_files;
    let left = files_max.saturating_sub(reserved);
    let connections_max = left.saturating_sub(refusals_max(left));
    ensure!(
        connections_max >= CONNECTIONS_MIN,
        "the limit of {files_max} open files is too low: {reserved} of them are needed besides connections \
         of clients; raise the hard limit (`ulimit -Hn`, systemd: `LimitNOFILE=`, Docker: `--ulimit \
         nofile=`)"
    );
    let wanted = limits.connections_max;
    if connections_max < wanted {
        limits.connections_max = connections_max;
        let required = required(wanted, reserved);
        tracing::warn!(
            "connections_max is lowered from {wanted} to {connections_max}, because the process may open \
             {files_max} files: raise the hard limit to {required} (`ulimit -Hn`, systemd: \
             `LimitNOFILE=`, Docker: `--ulimit nofile=`), or lower `connections_max`"
        );
    }
    Ok(())
}

/// The limit of open files that is enough for this many connections.
fn required(connections_max: usize, reserved: usize) -> usize {
    // What is refused is an eighth of the whole, and so a seventh of the rest.
    let refusals = refusals_max(connections_max.saturating_add(connections_max / 7 + 8));
    connections_max.saturating_add(refusals + reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capped(connections_max: usize, files_max: Option<usize>) -> Option<usize> {
        let mut limits = Limits { connections_max, ..Limits::default() };
        cap_connections(&mut limits, files_max, 20).ok().map(|()| limits.connections_max)
    }

    #[test]
    fn connections_never_need_more_files_than_there_are() {
        for (connections_max, files_max, expected) in [
            (10_000, None, Some(10_000)),
            (10_000, Some(1_048_576), Some(10_000)),
            (10_000, Some(4096), Some(3940)),
            (10_000, Some(1024), Some(868)),
            (500, Some(1024), Some(500)),
            (10_000, Some(64), Some(4)),
            (10_000, Some(63), None),
            (1, Some(0), None),
        ] {
            let connections = capped(connections_max, files_max);
            assert_eq!(connections, expected, "{files_max:?}");
            if let (Some(connections), Some(files_max)) = (connections, files_max) {
                let files =
                    connections + refusals_max(connections) + ADMIN_CONNECTIONS_MAX + OWN_FILES;
                assert!(files + 20 <= files_max, "{files_max}");
            }
        }
    }

    #[test]
    fn the_limit_named_in_the_warning_suffices() {
        let reserved = OWN_FILES + ADMIN_CONNECTIONS_MAX + 20;
        for wanted in [4, 100, 799, 10_000] {
            assert_eq!(capped(wanted, Some(required(wanted, reserved))), Some(wanted));
        }
    }
}
