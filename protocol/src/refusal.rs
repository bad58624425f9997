//! Why a message cannot be used: the words that stand in `flotilla-reason` and in the table of dead letters.

use crate::message::TaskCompleted;

/// Why a message becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// The body is no JSON, or no UTF-8.
    NotJson,
    /// The body is JSON, but not that of this message; or the type belongs elsewhere.
    WrongType,
    /// The body is larger than a message may be.
    TooLarge,
    /// Objects and lists are nested too deeply.
    TooDeep,
    /// A value cannot be stored: U+0000, a number out of range, a text that is too long.
    InvalidValue,
    /// A control message has a command that is not known.
    UnknownCommand,
    /// The sender speaks a later version of the contract.
    NewerVersion,
    /// A start was refused and nobody waits for the answer.
    Rejected,
    /// The message fails the turn that takes it.
    Poison,
}

impl Refusal {
    /// The word of the wire contract.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::WrongType => "wrong_type",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::InvalidValue => "invalid_value",
            Self::UnknownCommand => "unknown_command",
            Self::NewerVersion => "newer_version",
            Self::Rejected => "rejected",
            Self::Poison => "poison",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

/// A message that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}: {message}")]
pub struct Refused {
    /// The word for scripts.
    pub refusal: Refusal,
    /// One sentence for people.
    pub message: String,
    /// What can be used all the same: the sound completions of a batch, and for each one whose
    /// value cannot be stored a completion that says so (status `failed`, kind `invalid_result` or
    /// `limit_exceeded`). The message is a dead letter *and* these are to be taken, so that no task
    /// waits for a completion that was thrown away.
    pub salvaged: Vec<TaskCompleted>,
}

impl Refused {
    /// A refusal with nothing to salvage.
    #[must_use]
    pub fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        Self {
            refusal,
            message: message.into(),
            salvaged: Vec::new(),
        }
    }
}
