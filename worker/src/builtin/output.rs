//! What a process wrote, up to a limit.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The most bytes of each stream that are kept.
pub(super) const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// One stream of a process.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Whether it wrote more than is kept.
    pub(super) is_truncated: bool,
}

impl Output {
    /// Reads to the end. What goes beyond the limit is read and dropped, so that the process does not
    /// block on a full pipe.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<()> {
        let mut chunk = vec![0_u8; 16 * 1024];
        loop {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            let room = MAX_OUTPUT_BYTES - self.bytes.len();
            self.is_truncated |= read > room;
            self.bytes.extend_from_slice(&chunk[..read.min(room)]);
        }
    }

    /// As text that Postgres can hold. A character that the limit cut in two is left out.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        if self.is_truncated
            && let Err(error) = std::str::from_utf8(bytes)
            && error.error_len().is_none()
        {
            bytes = &bytes[..error.valid_up_to()];
        }
        String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Output {
        let mut output = Output::default();
        output.read(&mut bytes).await.unwrap();
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
}
