//! Validation issues of a request, worded so that the client's developer can fix them.

use serde::Serialize;
use utoipa::ToSchema;

/// One validation failure and its location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Issue {
    /// Location: a member such as `operations[3].baseVersion`, the name of a query parameter or
    /// header, or empty for the whole body.
    #[schema(example = "operations[3].baseVersion")]
    pub path: String,
    /// Violated rule, as a phrase whose subject is the path.
    #[schema(example = "must be null or a whole number from 0 to 9007199254740991")]
    pub message: String,
}

/// All issues of one request, at most [`Issues::MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// Maximum number of issues in one response.
    pub const MAX: usize = 20;

    /// Adds an issue, or drops it if there are [`Issues::MAX`] already.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < Self::MAX {
            self.0.push(Issue { path: path.into(), message: message.into() });
        }
    }

    /// Whether there are no issues.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The issues, in the order they were found.
    pub fn into_vec(self) -> Vec<Issue> {
        self.0
    }
}
