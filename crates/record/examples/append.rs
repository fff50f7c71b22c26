//! What one append costs: `cargo run --release -p corral-record --example append`.

use std::time::Instant;

use corral_gate::Tap;
use corral_model::event::{CloseReason, EventBody, Origin};
use corral_model::ids::{SessionId, StatementSeq};
use corral_model::resource::Durability;
use corral_record::{Recorder, Totals};
use time::OffsetDateTime;

const APPENDS: u64 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let now = OffsetDateTime::now_utc();
    let (recorder, _) = Recorder::open(dir.path(), "bench", now)?;
    let session = SessionId::new("s1")?;
    let origin = Origin {
        principal: Some("nightly-report".to_owned()),
        sponsor: Some("ada@example.com".to_owned()),
        run_path: Some("ci/planner/executor-3".to_owned()),
        ..Origin::default()
    };
    let opened = EventBody::SessionOpened {
        protocol: "postgres".to_owned(),
        client_address: "127.0.0.1:1".to_owned(),
        tls: false,
        claims: Vec::new(),
    };
    let mut tap = recorder.session(now, session, origin, Durability::Written, &opened)?;
    let begun = Instant::now();
    for number in 1..=APPENDS {
        tap.append(now, completed(number))?;
    }
    let spent = begun.elapsed();
    tap.close(now, CloseReason::Client, Totals::default())?;
    let path = dir.path().join("record/sessions");
    let bytes: u64 = walk(&path)?;
    println!(
        "{APPENDS} appends of {} bytes: {:.2} µs each",
        bytes / APPENDS,
        spent.as_secs_f64() * 1e6 / APPENDS as f64
    );
    Ok(())
}

fn completed(number: u64) -> EventBody {
    EventBody::StatementCompleted {
        decision: "d_0192f0c1a2b3c4d5".to_owned(),
        seq_in_session: StatementSeq(number),
        code: "00000".to_owned(),
        tag: Some("SELECT 1".to_owned()),
        rows: 1,
        bytes: 64,
        duration_us: 180,
        digest: None,
    }
}

fn walk(folder: &std::path::Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { walk(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
