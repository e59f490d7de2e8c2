//! What attachments may be, and how long they are kept.

use std::time::Duration;

use super::Reader;

/// Attachments.
#[derive(Debug, Clone)]
pub struct AttachmentConfig {
    /// Bytes of one, at most.
    pub bytes: u64,
    /// Pixels of a picture, at most.
    pub pixels: u64,
    /// How long one is kept that nobody sends.
    pub keep: Duration,
    /// How long its bytes are kept after its message was deleted.
    pub grace: Duration,
    /// Time between two sweeps.
    pub sweep: Duration,
    /// How long an address without a token is good for.
    pub link: Duration,
    /// Where the daemon is that looks them through; nothing for none.
    pub scanner: Option<String>,
}

impl Reader<'_> {
    pub(super) fn attachments(&mut self) -> AttachmentConfig {
        let mut seconds = |key, least, most| Duration::from_secs(self.within(key, least, most));
        let keep = seconds("ATTACHMENT_KEEP_SECONDS", 1, 31_536_000);
        let grace = seconds("ATTACHMENT_GRACE_SECONDS", 0, 31_536_000);
        let sweep = seconds("ATTACHMENT_SWEEP_SECONDS", 1, 86_400);
        let link = seconds("ATTACHMENT_LINK_SECONDS", 1, 86_400);
        let scanner = self.text("CLAMD_ADDRESS").trim().to_owned();
        if !scanner.is_empty() && !scanner.starts_with("unix:/") && !scanner.contains(':') {
            self.fault("CLAMD_ADDRESS", "must be host:port or unix:/path");
        }
        AttachmentConfig {
            bytes: self.within("ATTACHMENT_MAX_BYTES", 1, 1 << 40),
            pixels: self.within("ATTACHMENT_MAX_PIXELS", 1, 1 << 32),
            keep,
            grace,
            sweep,
            link,
            scanner: (!scanner.is_empty()).then_some(scanner),
        }
    }
}
