//! A device that takes long to make a session's file holds up no other work.

mod support;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use corral_model::event::Origin;
use corral_model::resource::Durability;
use corral_record::{Disk, FileDisk, Recorder, Sink};
use support::*;
use tokio::task::yield_now;

/// The longest wait for a word that makes a session's file.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes each session's file only when it is told.
struct SlowDisk {
    word: Mutex<mpsc::Receiver<()>>,
    making: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        if !path.components().any(|part| part.as_os_str() == "sessions") {
            return FileDisk.create(path);
        }
        let making = self.making.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(making, Ordering::SeqCst);
        let told = self.word.lock().expect("unharmed").recv_timeout(PATIENCE);
        let made = told.map_err(io::Error::other).and_then(|()| FileDisk.create(path));
        self.making.fetch_sub(1, Ordering::SeqCst);
        made
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Sink>> {
        FileDisk.open(path)
    }
}

// On one thread: if that waited for the device, nobody would be there to say the word.
#[tokio::test]
async fn other_work_goes_on_while_a_file_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let (say, word) = mpsc::sync_channel(3);
    let disk = Arc::new(SlowDisk {
        word: Mutex::new(word),
        making: AtomicUsize::new(0),
        most_at_once: AtomicUsize::new(0),
    });
    let (recorder, _) =
        Recorder::open_on(disk.clone(), dir.path(), "gw-1", start()).expect("opened");
    let begun = ["s1", "s2", "s3"].map(|id| {
        let recorder = recorder.clone();
        tokio::spawn(async move {
            let (id, origin) = (session_id(id), Origin::default());
            recorder.begin_session(at(0), id, origin, Durability::Written, opened()).await
        })
    });
    while disk.making.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    for _ in &begun {
        say.send(()).expect("the disk listens");
    }
    for session in begun {
        let mut tap = session.await.expect("not aborted").expect("begun");
        close(&mut tap);
    }
    assert_eq!(disk.most_at_once.load(Ordering::SeqCst), 1);
    recorder.stop().expect("stopped");
    check(dir.path()).expect("verified");
}
