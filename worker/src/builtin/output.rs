//! What a process writes: kept up to a limit, and line by line in the task's log while it runs.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::log::{AttemptLog, MAX_LINE_BYTES, Stream};

/// The most bytes of each stream that are kept.
pub(super) const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// One stream of a process.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Whether it wrote more than is kept.
    pub(super) is_truncated: bool,
    lines: LineFeed,
}

impl Output {
    pub(super) fn new(stream: Stream, log: &AttemptLog) -> Self {
        Self {
            bytes: Vec::new(),
            is_truncated: false,
            lines: LineFeed::new(stream, log.clone()),
        }
    }

    /// Reads to the end. What goes beyond the limit is read and not kept, so that the process does not
    /// block on a full pipe.
    pub(super) async fn read(
        &mut self,
        stream: Option<&mut (impl AsyncRead + Unpin)>,
    ) -> std::io::Result<()> {
        let Some(stream) = stream else { return Ok(()) };
        let mut chunk = vec![0_u8; 16 * 1024];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                self.lines.end();
                return Ok(());
            }
            self.lines.feed(&chunk[..read]);
            let room = MAX_OUTPUT_BYTES - self.bytes.len();
            self.is_truncated |= read > room;
            self.bytes.extend_from_slice(&chunk[..read.min(room)]);
        }
    }

    /// As text that Postgres can hold. A character that the limit cut in two is left out.
    pub(super) fn text(&self) -> String {
        text(&self.bytes, self.is_truncated)
    }
}

fn text(mut bytes: &[u8], is_truncated: bool) -> String {
    if is_truncated
        && let Err(error) = std::str::from_utf8(bytes)
        && error.error_len().is_none()
    {
        bytes = &bytes[..error.valid_up_to()];
    }
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

/// Makes lines of what comes in pieces.
#[derive(Debug)]
struct LineFeed {
    stream: Stream,
    log: AttemptLog,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Bytes of that line that are not kept.
    cut_bytes: usize,
}

impl LineFeed {
    fn new(stream: Stream, log: AttemptLog) -> Self {
        Self {
            stream,
            log,
            line: Vec::new(),
            cut_bytes: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|&byte| byte == b'\n');
        if let Some(first) = pieces.next() {
            self.add(first);
        }
        for piece in pieces {
            self.emit();
            self.add(piece);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let kept = piece.len().min(MAX_LINE_BYTES - self.line.len());
        self.line.extend_from_slice(&piece[..kept]);
        self.cut_bytes += piece.len() - kept;
    }

    fn emit(&mut self) {
        let cut_bytes = std::mem::take(&mut self.cut_bytes);
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        self.log
            .line(self.stream, &text(line, cut_bytes > 0), cut_bytes);
        self.line.clear();
    }

    /// The last line may have no end.
    fn end(&mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }
}

/// A process that is ended leaves its last line here.
impl Drop for LineFeed {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{texts, unheard};

    async fn read(mut bytes: &[u8]) -> Output {
        let mut output = Output::new(Stream::Stdout, &unheard());
        output.read(Some(&mut bytes)).await.unwrap();
        output
    }

    #[tokio::test]
    async fn what_fits_is_kept() {
        let output = read("ä\0".as_bytes()).await;
        assert_eq!(output.text(), "ä\u{fffd}");
        assert!(!output.is_truncated);
        assert_eq!(read(&[0xff]).await.text(), "\u{fffd}");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_between_characters() {
        let output = read(format!("x{}", "ä".repeat(MAX_OUTPUT_BYTES)).as_bytes()).await;
        assert!(output.is_truncated);
        assert_eq!(output.text().len(), MAX_OUTPUT_BYTES - 1);
    }

    #[tokio::test]
    async fn lines_are_logged_as_they_come() {
        let log = unheard();
        let mut feed = LineFeed::new(Stream::Stderr, log.clone());
        feed.feed(b"one\r\ntw");
        assert_eq!(texts(&log), ["one"]);
        feed.feed(b"o\n\nthree");
        assert_eq!(texts(&log), ["one", "two", ""]);
        drop(feed);
        assert_eq!(texts(&log), ["one", "two", "", "three"]);
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_memory() {
        let log = unheard();
        let mut feed = LineFeed::new(Stream::Stdout, log.clone());
        for _ in 0..100 {
            feed.feed(&[b'x'; 1000]);
        }
        assert_eq!(feed.line.len(), MAX_LINE_BYTES);
        feed.feed(b"\n");
        assert!(texts(&log)[0].ends_with("x… (91808 bytes more)"));
    }
}
