//! The lines that attempts log, on their way to their coordinators.
//!
//! ```text
//! handler, stdout, stderr ── line ──> AttemptLog ── a moment's lines in one message ──> inbox
//! ```
//!
//! It is best effort: nothing waits for a line, and no line is kept for ever. An attempt may log so
//! many lines and bytes; what goes beyond is counted, and its last line says how much that was. What
//! waits for the broker is bounded for the worker as a whole.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use flotilla_protocol::amqp::{Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::message::{LogLine, TaskLog};

use crate::secrets::Mask;
use crate::service::JobKey;

/// The longest line in bytes; of a longer one the beginning is kept.
pub(crate) const MAX_LINE_BYTES: usize = 8 * 1024;
/// The most lines of one attempt, with the one that says that there were more.
pub(crate) const MAX_LINES: u32 = 10_000;
/// The most bytes of one attempt.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The most lines of one message.
const MAX_MESSAGE_LINES: usize = 500;
/// The most bytes of text in one message, unless its only line has more.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// The most bytes of all attempts that wait for the broker.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// How long lines gather before they are sent.
const GATHERING: Duration = Duration::from_millis(200);

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// A process wrote it to its output.
    Stdout,
    /// A process wrote it to its error output.
    Stderr,
    /// The handler said it.
    Log,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
        }
    }
}

/// Sends the lines of all attempts of a worker.
#[derive(Debug, Clone)]
pub(crate) struct LogSender {
    publisher: Publisher,
    worker: Arc<str>,
    /// Bytes that wait for the broker.
    waiting: Arc<AtomicUsize>,
}

/// The log of one attempt. Clones write to the same one.
#[derive(Debug, Clone)]
pub(crate) struct AttemptLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: LogSender,
    key: JobKey,
    reply_to: Arc<str>,
    /// Values that no line shows.
    mask: Mask,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<LogLine>,
    /// Number of the last line before this run of the attempt.
    before: u32,
    /// Lines that were taken.
    taken: u32,
    /// Bytes that were taken.
    bytes: usize,
    /// Lines that were not taken.
    left_out: u64,
    /// Whether somebody is about to send what waits.
    is_sending: bool,
    /// Whether the attempt has ended.
    is_closed: bool,
}

impl LogSender {
    pub(crate) fn new(publisher: Publisher, worker: Arc<str>) -> Self {
        Self {
            publisher,
            worker,
            waiting: Arc::default(),
        }
    }

    /// The log of an attempt. `runs` is how often it has been run before: each run has line numbers
    /// of its own, since a line whose number is there already is not stored.
    pub(crate) fn attempt(
        &self,
        key: JobKey,
        reply_to: Arc<str>,
        runs: u32,
        mask: Mask,
    ) -> AttemptLog {
        AttemptLog(Arc::new(Shared {
            sender: self.clone(),
            key,
            reply_to,
            mask,
            lines: Mutex::new(Lines {
                before: runs.saturating_mul(MAX_LINES),
                ..Lines::default()
            }),
        }))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) + bytes <= MAX_WAITING_BYTES
    }

    /// Publishes a message, and once more if the broker may not have it.
    async fn send(
        self,
        message: Outgoing,
        first: impl Future<Output = PublishOutcome>,
        bytes: usize,
    ) {
        let mut outcome = first.await;
        if matches!(outcome, PublishOutcome::Nacked | PublishOutcome::Unknown) {
            outcome = self.publisher.publish(message).await;
        }
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if outcome != PublishOutcome::Confirmed {
            tracing::warn!(?outcome, "lines of a task's log are lost");
        }
    }
}

impl AttemptLog {
    /// Adds text of which each line is a line of the log.
    pub(crate) fn text(&self, stream: Stream, text: &str) {
        for line in text.lines() {
            let end = line.floor_char_boundary(MAX_LINE_BYTES);
            self.line(stream, &line[..end], line.len() - end);
        }
    }

    /// Adds a line, of which so many bytes were cut at its end. Needs a tokio runtime.
    pub(crate) fn line(&self, stream: Stream, text: &str, cut_bytes: usize) {
        let mut lines = self.lock();
        if lines.is_closed {
            return;
        }
        let is_full = lines.taken + 1 >= MAX_LINES || lines.bytes + text.len() > MAX_BYTES;
        if is_full || !self.0.sender.has_room(text.len()) {
            lines.left_out += 1;
            return;
        }
        let mut text = self.0.mask.text(text.replace('\0', "\u{fffd}"));
        if cut_bytes > 0 {
            text.push_str(&format!("… ({cut_bytes} bytes more)"));
        }
        self.take(&mut lines, stream, text);
        if !std::mem::replace(&mut lines.is_sending, true) {
            tokio::spawn(self.clone().send_gathered());
        }
    }

    /// The attempt has ended: what waits is on its way to the broker when this returns, before the
    /// completion.
    pub(crate) fn close(&self) {
        let mut lines = self.lock();
        if std::mem::replace(&mut lines.is_closed, true) {
            return;
        }
        if lines.left_out > 0 {
            let text = format!(
                "{} more lines were left out: an attempt may log {MAX_LINES} lines and {MAX_BYTES} bytes, as far as the broker takes them",
                lines.left_out
            );
            self.take(&mut lines, Stream::Log, text);
        }
        while let Some(sending) = self.send_next(&mut lines) {
            tokio::spawn(sending);
        }
    }

    fn take(&self, lines: &mut Lines, stream: Stream, text: String) {
        lines.taken += 1;
        lines.bytes += text.len();
        self.0
            .sender
            .waiting
            .fetch_add(text.len(), Ordering::Relaxed);
        lines.waiting.push_back(LogLine {
            no: lines.before.saturating_add(lines.taken),
            at: Utc::now(),
            stream: stream.word().to_owned(),
            text,
        });
    }

    /// Sends what gathers, one message at a time, until nothing waits.
    async fn send_gathered(self) {
        tokio::time::sleep(GATHERING).await;
        loop {
            let sending = {
                let mut lines = self.lock();
                let Some(sending) = self.send_next(&mut lines) else {
                    lines.is_sending = false;
                    return;
                };
                sending
            };
            sending.await;
        }
    }

    /// Queues the next message; what it gives waits for the confirm.
    fn send_next(&self, lines: &mut Lines) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (batch, bytes) = lines.next_batch()?;
        let shared = &self.0;
        let log = TaskLog {
            execution_id: shared.key.execution_id,
            task_id: shared.key.task_id,
            attempt: shared.key.attempt,
            worker: Some(shared.sender.worker.to_string()),
            lines: batch,
        };
        let message = Outgoing::log(&shared.reply_to, &log);
        let first = shared.sender.publisher.enqueue(message.clone());
        Some(shared.sender.clone().send(message, first, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn next_batch(&mut self) -> Option<(Vec<LogLine>, usize)> {
        let (mut count, mut bytes) = (0, 0);
        for line in &self.waiting {
            let is_full = count == MAX_MESSAGE_LINES
                || (count > 0 && bytes + line.text.len() > MAX_MESSAGE_BYTES);
            if is_full {
                break;
            }
            count += 1;
            bytes += line.text.len();
        }
        (count > 0).then(|| (self.waiting.drain(..count).collect(), bytes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::service::key;
    use flotilla_protocol::amqp::{ConnectOptions, PublisherOptions};

    /// A log whose broker is not there.
    pub(crate) fn unheard() -> AttemptLog {
        let options = ConnectOptions::new("amqp://127.0.0.1:1/%2f", "test");
        let publisher = Publisher::start(PublisherOptions::new(options));
        LogSender::new(publisher, "test".into()).attempt(key(1), "inbox".into(), 0, Mask::default())
    }

    pub(crate) fn texts(log: &AttemptLog) -> Vec<String> {
        let lines = log.lock();
        let texts = lines.waiting.iter().map(|line| line.text.clone());
        texts.collect()
    }

    #[tokio::test]
    async fn each_line_of_a_text_has_its_number() {
        let log = unheard();
        log.text(Stream::Log, "a\r\nb\0\n\nc");
        assert_eq!(texts(&log), ["a", "b\u{fffd}", "", "c"]);
        let lines = log.lock();
        let numbers: Vec<u32> = lines.waiting.iter().map(|line| line.no).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        drop(lines);
        let again = log
            .0
            .sender
            .attempt(key(1), "inbox".into(), 2, Mask::default());
        again.text(Stream::Stdout, "a");
        assert_eq!(again.lock().waiting[0].no, 20_001);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_between_characters() {
        let log = unheard();
        log.text(Stream::Log, &format!("x{}", "ä".repeat(MAX_LINE_BYTES)));
        let text = &texts(&log)[0];
        assert!(text.starts_with("xä") && text.ends_with("ä… (8194 bytes more)"));
        assert!(text.len() < MAX_LINE_BYTES + 40);
    }

    #[tokio::test]
    async fn an_attempt_is_bounded_in_lines_and_the_last_says_so() {
        let log = unheard();
        for _ in 0..MAX_LINES + 5 {
            log.text(Stream::Log, "x");
        }
        let mut lines = log.lock();
        assert_eq!((lines.taken, lines.left_out), (MAX_LINES - 1, 6));
        let mut sizes = Vec::new();
        while let Some((batch, bytes)) = lines.next_batch() {
            assert_eq!(batch.len(), bytes);
            sizes.push(batch.len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 9_999);
        assert_eq!((sizes.len(), sizes[0]), (20, MAX_MESSAGE_LINES));
    }

    #[tokio::test]
    async fn an_attempt_is_bounded_in_bytes() {
        let log = unheard();
        let line = "x".repeat(MAX_LINE_BYTES);
        for _ in 0..300 {
            log.text(Stream::Log, &line);
        }
        let mut lines = log.lock();
        assert_eq!((lines.taken, lines.left_out), (256, 44));
        assert_eq!(lines.next_batch().unwrap().0.len(), 16);
    }

    #[tokio::test]
    async fn what_waits_for_the_broker_is_bounded_and_a_closed_log_takes_nothing() {
        let log = unheard();
        let waiting = &log.0.sender.waiting;
        waiting.store(MAX_WAITING_BYTES, Ordering::Relaxed);
        log.text(Stream::Log, "x");
        assert_eq!(log.lock().left_out, 1);
        waiting.store(0, Ordering::Relaxed);
        log.close();
        log.text(Stream::Log, "x");
        assert_eq!(log.lock().taken, 1, "the line that says what was left out");
    }
}
