//! What the border lets in, and the word for what it refuses.

use flotilla_protocol::decode::{control_names, decode_cancel};
use flotilla_protocol::message::CompletionStatus;
use flotilla_protocol::names::{self, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES};
use flotilla_protocol::{
    Envelope, InboxMessage, Refusal, Refused, decode_control, decode_inbox, decode_job,
    decode_start,
};

const EXECUTION: &str = "0190f3c0-1b2a-7c3d-8e4f-5a6b7c8d9e0f";
const TASK: &str = "0190f3c0-1b2a-7abc-9def-000000000007";

/// A completion with these further fields.
fn completion(attempt: &str, more: &str) -> String {
    format!(
        r#"{{"execution_id":"{EXECUTION}","task_id":"{TASK}","attempt":{attempt},"status":"succeeded"{more}}}"#
    )
}

fn inbox(message_type: Option<&str>, body: &str) -> Result<InboxMessage, Refused> {
    let envelope = Envelope {
        message_type: message_type.map(str::to_owned),
        ..Envelope::default()
    };
    decode_inbox(&envelope, body.as_bytes())
}

fn completed(body: &str) -> Result<usize, Refusal> {
    match inbox(None, body) {
        Ok(InboxMessage::Completed(completions)) => Ok(completions.len()),
        Ok(other) => panic!("not a completion: {other:?}"),
        Err(refused) => Err(refused.refusal),
    }
}

fn start(body: &str) -> Option<Refusal> {
    let refused = decode_start(&Envelope::default(), body.as_bytes()).err();
    refused.map(|refused| refused.refusal)
}

#[test]
fn completions_come_alone_or_in_a_list() {
    let one = completion("1", "");
    assert_eq!(completed(&one), Ok(1));
    assert_eq!(completed(&format!(" [{one}, {one}]")), Ok(2));
    assert_eq!(completed("[]"), Ok(0));
}

#[test]
fn a_result_is_kept_as_it_was_written() {
    let body = completion(
        "1",
        r#","result":{"b": 1.50,  "a":[12345678901234567890123]}"#,
    );
    let Ok(InboxMessage::Completed(completions)) = inbox(None, &body) else {
        panic!("a completion");
    };
    let result = completions[0].result.as_ref().expect("a result");
    assert_eq!(
        result.get(),
        r#"{"b": 1.50,  "a":[12345678901234567890123]}"#
    );
}

#[test]
fn what_is_no_completion_is_refused_by_its_fault() {
    for (body, refusal) in [
        ("", Refusal::NotJson),
        ("{", Refusal::NotJson),
        ("{}{}", Refusal::WrongType),
        ("7", Refusal::WrongType),
        ("{}", Refusal::WrongType),
        (&completion("0", ""), Refusal::WrongType),
        (&completion("-1", ""), Refusal::WrongType),
        (&completion("4294967295", ""), Refusal::WrongType),
        (&completion("1.5", ""), Refusal::WrongType),
        (&completion("\"1\"", ""), Refusal::WrongType),
        (&completion("1", r#","error":7"#), Refusal::WrongType),
        (
            &completion("1", r#","started_at":"yesterday""#),
            Refusal::WrongType,
        ),
        (
            &completion("1", "").replace(TASK, "no-uuid"),
            Refusal::WrongType,
        ),
        (
            &completion("1", "").replace("succeeded", "perhaps"),
            Refusal::WrongType,
        ),
        (
            &completion("1", r#","result":"\u0000""#),
            Refusal::InvalidValue,
        ),
        (
            &completion("1", r#","result":1e999"#),
            Refusal::InvalidValue,
        ),
        (
            &completion("1", &format!(r#","worker":"{}""#, "w".repeat(256))),
            Refusal::InvalidValue,
        ),
    ] {
        assert_eq!(completed(body), Err(refusal), "{body}");
    }
}

#[test]
fn hostile_bodies_are_refused_cheaply() {
    let deep = completion("1", &format!(r#","result":{}"#, "[".repeat(100_000)));
    assert_eq!(completed(&deep), Err(Refusal::TooDeep));
    assert_eq!(completed(&"[".repeat(1_000_000)), Err(Refusal::TooDeep));
    let large = format!("\"{}\"", "x".repeat(20_000_000));
    assert_eq!(completed(&large), Err(Refusal::TooLarge));
    assert_eq!(start(&large), Some(Refusal::TooLarge));
    assert_eq!(start(&"{\"a\":".repeat(100_000)), Some(Refusal::TooDeep));
}

#[test]
fn a_list_may_be_larger_than_a_message_but_a_result_may_not() {
    let result = |bytes: usize| format!(r#","result":"{}""#, "x".repeat(bytes - 2));
    let full = completion("1", &result(MAX_MESSAGE_BYTES));
    assert_eq!(completed(&full), Ok(1));
    let list = [full.as_str(); 10].join(",");
    assert_eq!(completed(&format!("[{list}]")), Ok(10));
    let over = completion("1", &result(MAX_MESSAGE_BYTES + 1));
    assert_eq!(completed(&over), Err(Refusal::TooLarge));
    let blank = " ".repeat(MAX_BATCH_BYTES);
    assert_eq!(
        completed(&format!("[{full}{blank}]")),
        Err(Refusal::TooLarge)
    );
}

#[test]
fn what_is_sound_in_a_refused_list_is_salvaged() {
    let body = format!(
        "[{},{},{},{}]",
        completion("1", r#","result":1"#),
        completion("2", r#","result":"\u0000""#),
        completion("3", &format!(r#","result":"{}""#, "x".repeat(2_000_000))),
        completion(
            "4",
            &format!(r#","result":{}{}"#, "[".repeat(200), "]".repeat(200))
        ),
    );
    let refused = inbox(None, &body).expect_err("the list is refused");
    let salvaged: Vec<_> = refused
        .salvaged
        .iter()
        .map(|completed| {
            let kind = completed.error.as_ref().map(|error| error.kind.as_str());
            (completed.attempt, completed.status, kind)
        })
        .collect();
    let failed = CompletionStatus::Failed;
    assert_eq!(
        salvaged,
        [
            (1, CompletionStatus::Succeeded, None),
            (2, failed, Some("invalid_result")),
            (3, failed, Some("limit_exceeded")),
            (4, failed, Some("invalid_result")),
        ]
    );
    let one = inbox(None, &completion("1", r#","result":"\ud800""#)).expect_err("refused");
    assert_eq!(one.salvaged.len(), 1);
    assert!(inbox(None, "{}").expect_err("refused").salvaged.is_empty());
}

#[test]
fn the_type_says_what_an_inbox_message_is() {
    let ids = format!(r#""execution_id":"{EXECUTION}","task_id":"{TASK}","attempt":1"#);
    let of = |message_type: &str, more: &str| {
        inbox(Some(message_type), &format!("{{{ids}{more}}}")).map_err(|refused| refused.refusal)
    };
    assert!(matches!(
        of(names::TASK_STARTED, ""),
        Ok(InboxMessage::Started(_))
    ));
    assert!(matches!(
        of(names::TASK_HEARTBEAT, ""),
        Ok(InboxMessage::Heartbeat(_))
    ));
    let more = r#","reason":"delivery_limit","deliveries":21"#;
    assert!(matches!(
        of(names::TASK_DEAD, more),
        Ok(InboxMessage::Dead(_))
    ));
    let more = r#","lines":[]"#;
    assert!(matches!(
        of(names::TASK_LOG, more),
        Ok(InboxMessage::Log(_))
    ));
    let more = r#","partition":1,"epoch":2"#;
    assert!(matches!(
        of(names::COORDINATOR_PROBE, more),
        Ok(InboxMessage::Probe(_))
    ));
    let more = r#","command":"cancel""#;
    assert!(matches!(
        of(names::WORKFLOW_CONTROL, more),
        Ok(InboxMessage::Control(_))
    ));
    assert!(matches!(of("task.unheard_of", ""), Err(Refusal::WrongType)));
    assert!(matches!(
        of(names::WORKFLOW_START, ""),
        Err(Refusal::WrongType)
    ));
}

#[test]
fn a_newer_version_is_refused_before_anything_else() {
    for version in [2, i64::MAX] {
        let envelope = Envelope {
            message_type: Some("task.unheard_of".to_owned()),
            version: Some(version),
            ..Envelope::default()
        };
        let refusals = [
            decode_inbox(&envelope, b"?").err(),
            decode_start(&envelope, b"?").err(),
            decode_control(&envelope, b"?").err(),
            decode_job(&envelope, b"?").err(),
            decode_cancel(&envelope, b"?").err(),
        ];
        for refused in refusals {
            let refusal = refused.map(|refused| refused.refusal);
            assert_eq!(refusal, Some(Refusal::NewerVersion));
        }
    }
    for version in [0, 1] {
        let envelope = Envelope {
            version: Some(version),
            ..Envelope::default()
        };
        assert!(decode_start(&envelope, br#"{"workflow":"a.b"}"#).is_ok());
    }
}

#[test]
fn starts_are_checked_for_what_their_rows_can_hold() {
    let long = "x".repeat(600);
    let tags: Vec<String> = (0..65).map(|n| format!(r#""t{n}":"v""#)).collect();
    let tags = tags.join(",");
    for (body, refusal) in [
        (r#"{"workflow":"a.b","parameters":{}}"#.to_owned(), None),
        (r#"{"workflow":""}"#.to_owned(), Some(Refusal::WrongType)),
        (r#"{"workflow":7}"#.to_owned(), Some(Refusal::WrongType)),
        (
            r#"{"workflow":"a","parameters":[1]}"#.to_owned(),
            Some(Refusal::WrongType),
        ),
        (
            r#"{"workflow":"a","timeout":-1}"#.to_owned(),
            Some(Refusal::WrongType),
        ),
        (
            r#"{"workflow":"a","execution_id":"7"}"#.to_owned(),
            Some(Refusal::WrongType),
        ),
        (
            r#"{"workflow":"a\u0000b"}"#.to_owned(),
            Some(Refusal::InvalidValue),
        ),
        (
            format!(r#"{{"workflow":"{long}"}}"#),
            Some(Refusal::InvalidValue),
        ),
        (
            format!(r#"{{"workflow":"a","idempotency_key":"{long}"}}"#),
            Some(Refusal::InvalidValue),
        ),
        (
            format!(r#"{{"workflow":"a","tags":{{{tags}}}}}"#),
            Some(Refusal::InvalidValue),
        ),
    ] {
        assert_eq!(start(&body), refusal, "{body}");
    }
    let mut envelope = Envelope::of_type(names::WORKFLOW_START);
    envelope.message_id = Some("a\0b".to_owned());
    let refused = decode_start(&envelope, br#"{"workflow":"a.b"}"#).expect_err("refused");
    assert_eq!(refused.refusal, Refusal::InvalidValue);
}

#[test]
fn an_unknown_command_is_named() {
    let body = format!(r#"{{"execution_id":"{EXECUTION}","command":"explode","from":7}}"#);
    let refused =
        decode_control(&Envelope::default(), body.as_bytes()).expect_err("an unknown command");
    assert_eq!(refused.refusal, Refusal::UnknownCommand);
    let (execution, command) = control_names(body.as_bytes()).expect("both are there");
    assert_eq!(
        (execution.to_string().as_str(), command.as_str()),
        (EXECUTION, "explode")
    );
}

#[test]
fn a_job_takes_the_largest_input_there_may_be() {
    let job = |attempt: u32, bytes: usize| {
        let input = "x".repeat(bytes);
        format!(
            r#"{{"execution_id":"{EXECUTION}","task_id":"{TASK}","attempt":{attempt},"workflow":"a.b","task":"t","visit":1,"action":"core.echo","input":"{input}","idempotency_key":"k"}}"#
        )
    };
    let envelope = Envelope::of_type(names::TASK_JOB);
    assert!(decode_job(&envelope, job(1, MAX_MESSAGE_BYTES).as_bytes()).is_ok());
    assert!(decode_job(&envelope, job(0, 1).as_bytes()).is_err());
    assert!(decode_job(&envelope, job(1, 2 * MAX_MESSAGE_BYTES).as_bytes()).is_err());
}
