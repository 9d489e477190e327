//! What is wrong with a request, said so that its author can mend it.

use serde::Serialize;
use utoipa::ToSchema;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Issue {
    /// Where: `operations[3].baseVersion`, a query parameter's or header's name, or empty for the
    /// whole body.
    #[schema(example = "operations[3].baseVersion")]
    pub path: String,
    /// What: half a sentence that goes on from the path.
    #[schema(example = "must be null or a whole number from 0 to 9007199254740991")]
    pub message: String,
}

/// Everything that is wrong with one request, up to [`Issues::MAX`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// The most that one answer tells.
    pub const MAX: usize = 20;

    /// Notes one; past [`Issues::MAX`] it is not kept.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < Self::MAX {
            self.0.push(Issue { path: path.into(), message: message.into() });
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The issues, in the order they were found.
    pub fn into_vec(self) -> Vec<Issue> {
        self.0
    }
}
