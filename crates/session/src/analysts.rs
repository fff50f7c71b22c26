//! A few threads with deep stacks, where hostile statements are parsed.
//!
//! A parser recurses as deep as a statement nests; on a runtime worker's stack that would end the
//! process. The memory is virtual until a statement really nests that deep.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corral_gate::Work;
use corral_model::limits::{ANALYSIS_QUEUE_LEN_MAX, ANALYSIS_STACK_BYTES, ANALYSIS_THREADS};
use tokio::sync::{mpsc, oneshot};

/// Why a piece of work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum AnalystsError {
    #[error("the analysis of a statement panicked or its thread is gone")]
    Lost,
    #[error("an analysis thread cannot be started")]
    Spawn(#[source] std::io::Error),
}

struct Job {
    work: Work,
    answer: oneshot::Sender<Box<dyn Any + Send>>,
}

/// The pool. Cloning shares it; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Analysts {
    queues: Arc<[mpsc::Sender<Job>]>,
    next: Arc<AtomicUsize>,
}

impl Analysts {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`AnalystsError::Spawn`] when the system refuses a thread.
    pub fn start() -> Result<Self, AnalystsError> {
        let queues: Vec<mpsc::Sender<Job>> =
            (0..ANALYSIS_THREADS).map(start_thread).collect::<Result<_, _>>()?;
        Ok(Self { queues: queues.into(), next: Arc::new(AtomicUsize::new(0)) })
    }

    /// Runs one piece of work; waits while the queue is full.
    ///
    /// # Errors
    /// [`AnalystsError::Lost`] when the work panicked: the statement stays undecided and its
    /// session ends.
    ///
    /// # Cancel safety
    /// The work may still run; its result is dropped.
    pub async fn run(&self, work: Work) -> Result<Box<dyn Any + Send>, AnalystsError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        let queue = self.queues.get(turn).ok_or(AnalystsError::Lost)?;
        let (answer, result) = oneshot::channel();
        queue.send(Job { work, answer }).await.map_err(|_| AnalystsError::Lost)?;
        result.await.map_err(|_| AnalystsError::Lost)
    }
}

fn start_thread(number: usize) -> Result<mpsc::Sender<Job>, AnalystsError> {
    let (sender, mut receiver) = mpsc::channel::<Job>(ANALYSIS_QUEUE_LEN_MAX / ANALYSIS_THREADS);
    std::thread::Builder::new()
        .name(format!("analysis-{number}"))
        .stack_size(ANALYSIS_STACK_BYTES)
        .spawn(move || {
            while let Some(Job { work, answer }) = receiver.blocking_recv() {
                // A panic must cost one session, not the thread that others share.
                match std::panic::catch_unwind(AssertUnwindSafe(work.0)) {
                    // A session that is gone needs no result.
                    Ok(result) => drop(answer.send(result)),
                    Err(_) => tracing::error!("the analysis of a statement panicked"),
                }
            }
        })
        .map_err(AnalystsError::Spawn)?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let analysts = Analysts::start().expect("threads");
        for _ in 0..ANALYSIS_THREADS {
            let result =
                analysts.run(Work(Box::new(|| std::panic::resume_unwind(Box::new(1))))).await;
            assert!(matches!(result, Err(AnalystsError::Lost)));
        }
        for expect in 0..4_u32 {
            let result = analysts.run(Work(Box::new(move || Box::new(expect)))).await;
            let value = result.expect("works").downcast::<u32>().expect("a number");
            assert_eq!(*value, expect);
        }
    }

    #[tokio::test]
    async fn the_stack_is_as_deep_as_promised() {
        fn recurse(depth: usize) -> usize {
            let padding = std::hint::black_box([0_u8; 1024]);
            if depth == 0 { usize::from(padding[0]) } else { 1 + recurse(depth - 1) }
        }
        let analysts = Analysts::start().expect("threads");
        let depth = ANALYSIS_STACK_BYTES / 4 / 1024;
        let result = analysts.run(Work(Box::new(move || Box::new(recurse(depth))))).await;
        assert_eq!(*result.expect("fits").downcast::<usize>().expect("a number"), depth);
    }
}
