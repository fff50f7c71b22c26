//! What is known of the target's transaction state, while answers are still on their way.
//!
//! Every Sync and Query has a number, its epoch. What was sent after the last epoch that the target
//! answered is not certain yet.

/// The transaction state of one session.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// `I`, `T` or `E`, as of `answered`.
    status: u8,
    /// Of the last Sync or Query that was sent.
    epoch: u64,
    /// Of the last one that was answered.
    answered: u64,
    /// Since then a statement was sent that may begin or end a transaction.
    control_epoch: u64,
    begin_epoch: u64,
    /// Messages of the extended protocol were sent, and no Sync yet: the epoch of the last one. A
    /// Query does not end what an error makes the target skip, until it is answered itself.
    pipeline_epoch: Option<u64>,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        Self {
            status: b'I',
            epoch: 1,
            answered: 1,
            control_epoch: 0,
            begin_epoch: 0,
            pipeline_epoch: None,
        }
    }

    /// A Sync is sent; gives its number.
    pub(crate) fn sync_sent(&mut self) -> u64 {
        self.pipeline_epoch = None;
        self.query_sent()
    }

    /// A Query is sent; gives its number.
    pub(crate) fn query_sent(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// A message of the extended protocol is sent, or a Sync behind it has no effect.
    pub(crate) fn open_pipeline(&mut self) {
        self.pipeline_epoch = Some(self.epoch);
    }

    pub(crate) fn is_pipeline_open(&self) -> bool {
        self.pipeline_epoch.is_some()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The target answered the Sync or Query of this number.
    pub(crate) fn answered(&mut self, epoch: u64, status: u8) {
        self.answered = epoch;
        self.status = status;
        self.pipeline_epoch = self.pipeline_epoch.filter(|sent| *sent >= epoch);
    }

    /// A statement that begins a transaction is sent, before the next Sync.
    pub(crate) fn begin_sent(&mut self) {
        self.begin_epoch = self.epoch + 1;
        self.control_sent();
    }

    /// A statement that may begin or end a transaction is sent, before the next Sync.
    pub(crate) fn control_sent(&mut self) {
        self.control_epoch = self.epoch + 1;
    }

    /// No Sync or Query is unanswered.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered == self.epoch
    }

    /// Nothing that was sent is unanswered.
    pub(crate) fn is_certain(&self) -> bool {
        self.is_answered() && !self.is_pipeline_open()
    }

    /// Certainly outside any transaction.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_certain() && self.status == b'I'
    }

    /// Certainly in a failed transaction: only its end can succeed.
    pub(crate) fn is_failed(&self) -> bool {
        self.is_certain() && self.status == b'E'
    }

    /// Certainly in a transaction block that a Sync does not end.
    pub(crate) fn is_in_block(&self) -> bool {
        self.status != b'I' && self.control_epoch <= self.answered
    }

    /// Whether a statement that is sent now runs in a transaction block, as far as is known.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.status != b'I' || self.begin_epoch > self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_counts_from_the_moment_it_is_sent() {
        let mut transaction = Transaction::new();
        assert!(transaction.is_idle() && !transaction.is_in_transaction());
        transaction.begin_sent();
        let epoch = transaction.sync_sent();
        assert!(transaction.is_in_transaction() && !transaction.is_idle());
        transaction.answered(epoch, b'T');
        assert!(transaction.is_in_block() && transaction.is_in_transaction());
        transaction.control_sent();
        let epoch = transaction.sync_sent();
        assert!(!transaction.is_in_block());
        transaction.answered(epoch, b'I');
        assert!(transaction.is_idle());
    }

    #[test]
    fn an_open_pipeline_is_never_certain() {
        let mut transaction = Transaction::new();
        transaction.open_pipeline();
        assert!(!transaction.is_idle());
        let epoch = transaction.sync_sent();
        assert!(!transaction.is_idle());
        transaction.answered(epoch, b'E');
        assert!(transaction.is_failed());
    }

    #[test]
    fn a_query_closes_a_pipeline_only_once_it_is_answered() {
        let mut transaction = Transaction::new();
        transaction.open_pipeline();
        let epoch = transaction.query_sent();
        assert!(transaction.is_pipeline_open(), "an error in front of it makes the target skip it");
        transaction.answered(epoch, b'I');
        assert!(transaction.is_idle());
        let epoch = transaction.query_sent();
        transaction.open_pipeline();
        transaction.answered(epoch, b'I');
        assert!(transaction.is_pipeline_open(), "it was opened behind the query");
    }
}
