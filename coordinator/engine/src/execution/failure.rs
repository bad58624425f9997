//! Failures: their kinds, and how they look in rows, replies and expressions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_protocol::TaskId;
use flotilla_protocol::message::TaskError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::spread::ItemFailure;
use crate::expression::ExpressionError;
use crate::json::Json;
use crate::scope::{EndStatus, Ended};

/// The error kinds that the engine itself gives.
pub mod kind {
    /// The worker reported a failure and gave no kind.
    pub const TASK_FAILED: &str = "task_failed";
    /// An attempt ran longer than its time limit.
    pub const TASK_TIMEOUT: &str = "task_timeout";
    /// The execution took longer than it may.
    pub const WORKFLOW_TIMEOUT: &str = "workflow_timeout";
    /// The output is not as its schema wants it.
    pub const INVALID_OUTPUT: &str = "invalid_output";
    /// A route led to `fail`.
    pub const EXPLICIT_FAIL: &str = "explicit_fail";
    /// A join can no longer be complete.
    pub const UNREACHABLE_JOIN: &str = "unreachable_join";
    /// No branch of a decision holds.
    pub const NO_BRANCH_MATCHED: &str = "no_branch_matched";
    /// An expression could not be evaluated.
    pub const EXPRESSION_ERROR: &str = "expression_error";
    /// The workers that took the job died, too often.
    pub const WORKER_LOST: &str = "worker_lost";
    /// What the worker answered cannot be stored.
    pub const INVALID_RESULT: &str = "invalid_result";
    /// The execution was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// A limit was exceeded.
    pub const LIMIT_EXCEEDED: &str = "limit_exceeded";
    /// A sub-workflow did not succeed.
    pub const CHILD_FAILED: &str = "child_failed";
    /// A worker refused the job as not of the contract.
    pub const CONTRACT_VIOLATION: &str = "contract_violation";
}

/// One entry of an execution's list of errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// One word, see [`kind`]; or a kind of the action.
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// The task, if it is one task's failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Arc<str>>,
    /// Its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The field whose expression could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// That expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

impl ExecutionError {
    /// An error that is not the failure of one run.
    #[must_use]
    pub fn new(kind: &str, message: String) -> Self {
        Self {
            kind: kind.to_owned(),
            message,
            task: None,
            task_id: None,
            field: None,
            expression: None,
        }
    }
}

/// An expression of a task, or of the workflow, that could not be evaluated.
#[derive(Debug, Clone)]
pub(super) struct FieldError {
    /// The kind, which is not always `expression_error`.
    pub kind: &'static str,
    /// The field, as a path within the task (`publish.total`).
    pub field: String,
    /// The expression, if there is one.
    pub expression: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, error: &ExpressionError) -> Self {
        Self {
            kind: if error.limit {
                kind::LIMIT_EXCEEDED
            } else {
                kind::EXPRESSION_ERROR
            },
            field: field.into(),
            expression: Some(error.expression.clone()),
            message: error.message.clone(),
        }
    }

    /// A value that an expression gave but that the field cannot take.
    pub(super) fn value(field: impl Into<String>, message: String) -> Self {
        Self {
            kind: kind::EXPRESSION_ERROR,
            field: field.into(),
            expression: None,
            message,
        }
    }

    /// Says at which item it happened.
    pub(super) fn at_item(self, index: u32) -> Self {
        Self {
            message: format!("at item {index}: {}", self.message),
            ..self
        }
    }

    pub(super) fn message(&self) -> String {
        match &self.expression {
            Some(expression) => format!("{}: {} (in `{expression}`)", self.field, self.message),
            None => format!("{}: {}", self.field, self.message),
        }
    }

    pub(super) fn execution_error(&self) -> ExecutionError {
        ExecutionError {
            field: Some(self.field.clone()),
            expression: self.expression.clone(),
            ..ExecutionError::new(self.kind, self.message())
        }
    }
}

/// The object that `error()` gives and the row shows.
#[derive(Serialize)]
struct ErrorObject<'a> {
    kind: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<&'a str>,
    /// What `error().items` gives.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    items: &'a [ItemFailure<'a>],
}

impl<'a> ErrorObject<'a> {
    fn new(kind: &'a str, message: &'a str) -> Self {
        Self {
            kind,
            message,
            retryable: None,
            details: None,
            field: None,
            expression: None,
            items: &[],
        }
    }
}

#[derive(Deserialize)]
struct ErrorKind<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

impl Ended {
    pub(super) fn succeeded(result: Json) -> Self {
        Self {
            status: EndStatus::Succeeded,
            result,
            error: Json::null(),
            timeout_is_failure: false,
            is_ignored: false,
        }
    }

    pub(super) fn without_result(status: EndStatus) -> Self {
        Self {
            status,
            result: Json::null(),
            error: Json::null(),
            timeout_is_failure: false,
            is_ignored: false,
        }
    }

    pub(super) fn failed(kind: &str, message: &str) -> Self {
        Self {
            error: error_json(kind, message, None),
            ..Self::without_result(EndStatus::Failed)
        }
    }

    /// An attempt that ran longer than its time limit.
    pub(super) fn overdue(message: &str) -> Self {
        Self {
            status: EndStatus::TimedOut,
            ..Self::failed(kind::TASK_TIMEOUT, message)
        }
    }

    /// A task of which more items have failed than it tolerates.
    pub(super) fn items_failed(failed: u32, count: u32, items: &[ItemFailure<'_>]) -> Self {
        let message = format!("{failed} of {count} items failed");
        let error = Json::of(&ErrorObject {
            items,
            ..ErrorObject::new(kind::TASK_FAILED, &message)
        });
        Self {
            error,
            ..Self::without_result(EndStatus::Failed)
        }
    }

    /// A parallel task of which children have failed: by the names of these, how each of them ended.
    pub(super) fn children_failed(
        result: Json,
        failed: &BTreeMap<&str, &RawValue>,
        count: usize,
    ) -> Self {
        let names: Vec<&str> = failed.keys().copied().collect();
        let names = names.join(", ");
        let message = format!("{} of {count} children failed: {names}", failed.len());
        let details = Json::of(failed);
        let details: Option<&RawValue> = serde_json::from_str(details.text()).ok();
        let error = Json::of(&ErrorObject {
            details,
            ..ErrorObject::new(kind::TASK_FAILED, &message)
        });
        Self {
            error,
            result,
            ..Self::without_result(EndStatus::Failed)
        }
    }

    pub(super) fn cancelled(message: &str) -> Self {
        Self {
            status: EndStatus::Cancelled,
            ..Self::failed(kind::CANCELLED, message)
        }
    }

    pub(super) fn not_evaluated(error: &FieldError) -> Self {
        Self {
            error: error_json(error.kind, &error.message(), Some(error)),
            ..Self::without_result(EndStatus::Failed)
        }
    }

    /// How an attempt of a live run has ended, of what its row keeps: its error is null after a
    /// success that `retry.when` did not accept.
    #[must_use]
    pub fn of_last_attempt(result: Json, error: Json) -> Self {
        let status = if error.is_null() {
            EndStatus::Succeeded
        } else {
            match serde_json::from_str::<ErrorKind>(error.text()) {
                Ok(error) if error.kind == kind::TASK_TIMEOUT => EndStatus::TimedOut,
                Ok(_) | Err(_) => EndStatus::Failed,
            }
        };
        Self {
            status,
            result,
            error,
            timeout_is_failure: true,
            is_ignored: false,
        }
    }

    /// A failure or timeout as the worker reported it.
    pub(super) fn reported(status: EndStatus, result: Json, error: Option<&TaskError>) -> Self {
        let default_kind = match status {
            EndStatus::TimedOut => kind::TASK_TIMEOUT,
            EndStatus::Cancelled => kind::CANCELLED,
            EndStatus::Succeeded | EndStatus::Failed | EndStatus::Skipped | EndStatus::Omitted => {
                kind::TASK_FAILED
            }
        };
        let error = match error {
            Some(error) => Json::of(&ErrorObject {
                retryable: error.retryable,
                details: error.details.as_deref(),
                ..ErrorObject::new(&error.kind, &error.message)
            }),
            None => error_json(default_kind, "the worker gave no reason", None),
        };
        Self {
            status,
            result,
            error,
            timeout_is_failure: false,
            is_ignored: false,
        }
    }

    /// Whether this end is a failure for what follows.
    pub(super) fn is_failure(&self) -> bool {
        match self.status {
            EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled => true,
            EndStatus::Succeeded | EndStatus::Skipped | EndStatus::Omitted => false,
        }
    }

    /// This end as an entry of the execution's list of errors.
    pub(super) fn execution_error(&self, task: &Arc<str>, task_id: TaskId) -> ExecutionError {
        let object: serde_json::Value = serde_json::from_str(self.error.text()).unwrap_or_default();
        let text = |key: &str| {
            object
                .get(key)
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
        let kind = text("kind").unwrap_or_else(|| kind::TASK_FAILED.to_owned());
        let message = text("message").unwrap_or_default();
        let (field, expression) = (text("field"), text("expression"));
        ExecutionError {
            kind,
            message,
            task: Some(Arc::clone(task)),
            task_id: Some(task_id),
            field,
            expression,
        }
    }
}

fn error_json(kind: &str, message: &str, field: Option<&FieldError>) -> Json {
    Json::of(&ErrorObject {
        field: field.map(|error| error.field.as_str()),
        expression: field.and_then(|error| error.expression.as_deref()),
        ..ErrorObject::new(kind, message)
    })
}
