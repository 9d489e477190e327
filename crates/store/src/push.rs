//! What every database does alike to apply a push.

use vaultsync_protocol::{Push, Timestamp, Written};

use crate::WriteDecision;

/// 9000-01-01T00:00:00Z. A machine's clock that is later than this is broken, and a vault's clock that
/// followed it would come to the end of what RFC 3339 can write and could never go back.
const NOW_MAX: Timestamp = Timestamp::from_millis(221_845_392_000_000);

/// The first millisecond that a push may hand out in a vault whose clock stands at `clock`.
pub(crate) fn first_free(now: Timestamp, clock: Timestamp) -> Timestamp {
    now.min(NOW_MAX).max(clock.plus_millis(1))
}

/// The answer to a push without conflicts.
pub(crate) fn written(push: &Push, verdicts: &[WriteDecision]) -> Vec<Written> {
    let pairs = push.operations().iter().zip(verdicts);
    pairs
        .filter_map(|(operation, verdict)| match verdict {
            WriteDecision::AlreadyApplied(version) | WriteDecision::Apply(version) => {
                Some(Written { record_id: operation.record_id.clone(), version: *version })
            }
            WriteDecision::Conflict => None,
        })
        .collect()
}
