//! The key that the record's checkpoints are signed with.

use super::App;

impl App {
    /// The public key, as `record.pub` holds it.
    #[must_use]
    pub fn record_public_key(&self) -> String {
        self.recorder.public_key().to_pem()
    }
}
