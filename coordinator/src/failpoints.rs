//! Crash points for the fault tests: where `FAILPOINTS` says so, the process ends as if killed.
//! Without the feature `failpoints` they compile to nothing.

/// A place at which a fault test may end the process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CrashPoint {
    /// A turn is decided, nothing of it is sent.
    BeforeCommit,
    /// The commit stands, nothing is acknowledged.
    AfterCommit,
    /// All is acknowledged, nothing is published.
    AfterAcknowledge,
    /// Publications are confirmed, the watermark has not passed them.
    AfterPublish,
}

/// Reads `FAILPOINTS` once.
pub(crate) fn set_up() {
    #[cfg(feature = "failpoints")]
    std::mem::forget(fail::FailScenario::setup());
}

/// Ends the process here if the test wants it.
pub(crate) fn crash_at(point: CrashPoint) {
    match point {
        CrashPoint::BeforeCommit => fail::fail_point!("before_commit", |_| std::process::abort()),
        CrashPoint::AfterCommit => fail::fail_point!("after_commit", |_| std::process::abort()),
        CrashPoint::AfterAcknowledge => {
            fail::fail_point!("after_acknowledge", |_| std::process::abort());
        }
        CrashPoint::AfterPublish => fail::fail_point!("after_publish", |_| std::process::abort()),
    }
}

/// Whether the answer of a commit that the database has carried out shall be lost.
pub(crate) fn loses_commit_answer() -> bool {
    fail::fail_point!("lose_commit_answer", |_| true);
    false
}

/// Whether crash points are compiled in; then acknowledgements are waited for, so that a crash
/// after them is one.
pub(crate) const ENABLED: bool = cfg!(feature = "failpoints");
