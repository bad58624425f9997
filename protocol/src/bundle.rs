//! Bundles: several jobs of a pool in one message.
//!
//! A message costs the broker several times what a job costs a worker, so where a turn has many jobs for
//! a pool, workers that want them get some at a time. Each job of a bundle is the body of a `task.job` to the letter,
//! with those of its properties that a worker needs:
//!
//! ```json
//! [{"reply_to": "flotilla.inbox.3", "traceparent": "…", "job": {"execution_id": "…", …}}, …]
//! ```

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::decode::{MAX_NAME_BYTES, check_envelope, check_length, check_size, expect_type, read};
use crate::envelope::{Envelope, is_passed_on};
use crate::ids::{ExecutionId, TaskId};
use crate::names::{self, MAX_BATCH_BYTES};
use crate::refusal::{Refusal, Refused};

/// The bundle of some jobs, by and by.
#[derive(Debug, Default)]
pub struct BundleWriter {
    body: Vec<u8>,
}

/// What comes before a job.
#[derive(Serialize)]
struct Properties<'a> {
    reply_to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

impl BundleWriter {
    /// Adds a job: the body of its `task.job`, and where its answers go.
    ///
    /// # Panics
    /// Never: texts have JSON.
    pub fn push(&mut self, reply_to: &str, traceparent: Option<&str>, job: &[u8]) {
        self.body
            .push(if self.body.is_empty() { b'[' } else { b',' });
        let properties = Properties {
            reply_to,
            traceparent,
        };
        serde_json::to_writer(&mut self.body, &properties).expect("texts have JSON");
        self.body.pop();
        self.body.extend_from_slice(b",\"job\":");
        self.body.extend_from_slice(job);
        self.body.push(b'}');
    }

    /// The body of the message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.body.push(b']');
        self.body
    }
}

/// One job of a bundle, as if it had come alone.
#[derive(Debug, PartialEq, Eq)]
pub struct BundledJob {
    /// The properties that its own message would have.
    pub envelope: Envelope,
    /// The body that its own message would have; it is checked as such.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    reply_to: Cow<'a, str>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    job: &'a RawValue,
}

/// What names a job, as far as it can be read.
#[derive(Deserialize)]
struct Name {
    execution_id: ExecutionId,
    task_id: TaskId,
    attempt: u32,
}

/// Takes a bundle apart. Whether its jobs can be used is seen when each is decoded.
///
/// # Errors
/// [`Refused`] says what the dead letter is to say: it is no bundle, or one without jobs.
pub fn decode_bundle(envelope: &Envelope, body: &[u8]) -> Result<Vec<BundledJob>, Refused> {
    check_envelope(envelope)?;
    expect_type(envelope, names::TASK_BUNDLE)?;
    check_size(body, MAX_BATCH_BYTES)?;
    let entries: Vec<Entry<'_>> = read(body)?;
    if entries.is_empty() {
        return Err(Refused::new(Refusal::WrongType, "a bundle without jobs"));
    }
    for entry in &entries {
        // AMQP carries no longer name, so that no answer could be sent.
        check_length("reply_to", &entry.reply_to, MAX_NAME_BYTES)?;
    }
    let jobs = entries.into_iter().map(|entry| {
        let name: Option<Name> = serde_json::from_str(entry.job.get()).ok();
        BundledJob {
            envelope: Envelope {
                message_type: Some(names::TASK_JOB.to_owned()),
                message_id: name
                    .as_ref()
                    .map(|name| names::job_message_id(name.task_id, name.attempt)),
                correlation_id: name.map(|name| name.execution_id.to_string()),
                reply_to: Some(entry.reply_to.into_owned()),
                traceparent: entry
                    .traceparent
                    .filter(|trace| is_passed_on(trace))
                    .map(Cow::into_owned),
                version: envelope.version,
                ..Envelope::default()
            },
            body: entry.job.get().as_bytes().to_vec(),
        }
    });
    Ok(jobs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190a1b2-0000-7000-8000-000000000001";

    fn job(attempt: u32) -> String {
        format!(
            r#"{{"execution_id":"{ID}","task_id":"{ID}","attempt":{attempt},"input":{{"a":[1]}}}}"#
        )
    }

    #[test]
    fn jobs_come_out_as_they_went_in() {
        let mut writer = BundleWriter::default();
        writer.push("flotilla.inbox.3", None, job(1).as_bytes());
        writer.push("in \"quotes\"", Some("00-ab-cd-01"), job(2).as_bytes());
        let body = writer.finish();
        let envelope = Envelope {
            version: Some(1),
            ..Envelope::of_type(names::TASK_BUNDLE)
        };
        let jobs = decode_bundle(&envelope, &body).unwrap();
        let [first, second] = jobs.as_slice() else {
            panic!("{jobs:?}");
        };
        assert_eq!(first.body, job(1).as_bytes());
        assert_eq!(
            first.envelope,
            Envelope {
                message_id: Some(format!("{ID}/1")),
                correlation_id: Some(ID.to_owned()),
                reply_to: Some("flotilla.inbox.3".to_owned()),
                version: Some(1),
                ..Envelope::of_type(names::TASK_JOB)
            }
        );
        assert_eq!(second.body, job(2).as_bytes());
        let envelope = &second.envelope;
        assert_eq!(envelope.message_id, Some(format!("{ID}/2")));
        assert_eq!(envelope.reply_to.as_deref(), Some("in \"quotes\""));
        assert_eq!(envelope.traceparent.as_deref(), Some("00-ab-cd-01"));
    }

    #[test]
    fn a_job_that_is_none_is_left_to_who_decodes_it() {
        let body = br#"[{"reply_to":"q","job":7}]"#;
        let jobs = decode_bundle(&Envelope::of_type(names::TASK_BUNDLE), body).unwrap();
        assert_eq!(jobs[0].body, b"7");
        assert_eq!(jobs[0].envelope.message_id, None);
    }

    #[test]
    fn a_trace_that_is_too_long_is_left_out() {
        let mut writer = BundleWriter::default();
        writer.push("q", Some(&"0".repeat(513)), job(1).as_bytes());
        let envelope = Envelope::of_type(names::TASK_BUNDLE);
        let jobs = decode_bundle(&envelope, &writer.finish()).unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].envelope.traceparent, None);
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        let bundle = Envelope::of_type(names::TASK_BUNDLE);
        let newer = Envelope {
            version: Some(2),
            ..bundle.clone()
        };
        let too_large = vec![b' '; MAX_BATCH_BYTES + 1];
        let unanswerable = format!(r#"[{{"reply_to":"{}","job":{{}}}}]"#, "q".repeat(256));
        let cases: [(&Envelope, &[u8], Refusal); 7] = [
            (&bundle, b"[", Refusal::NotJson),
            (&bundle, b"{}", Refusal::WrongType),
            (&bundle, b"[]", Refusal::WrongType),
            (&bundle, &too_large, Refusal::TooLarge),
            (&bundle, unanswerable.as_bytes(), Refusal::InvalidValue),
            (&newer, b"[]", Refusal::NewerVersion),
            (&Envelope::of_type("task.job"), b"[]", Refusal::WrongType),
        ];
        for (envelope, body, refusal) in cases {
            let refused = decode_bundle(envelope, body).unwrap_err();
            assert_eq!(refused.refusal, refusal, "{refused}");
        }
    }
}
