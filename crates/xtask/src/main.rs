//! House rules as tests: `cargo xtask tidy`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod tidy;

const USAGE: &str = "usage: cargo xtask tidy";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("tidy"), None) => run_tidy(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> ExitCode {
    match tidy::check(&workspace_root()) {
        Ok(report) if report.violations.is_empty() => {
            println!("tidy: {} files, {} rules, nothing found", report.files, report.rules);
            ExitCode::SUCCESS
        }
        Ok(report) => {
            for violation in &report.violations {
                eprintln!("{violation}");
            }
            eprintln!("tidy: {} found", report.violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace's `Cargo.toml`.
fn workspace_root() -> PathBuf {
    // As cargo says when it runs this; a target directory may serve several checkouts.
    let own = std::env::var("CARGO_MANIFEST_DIR");
    let own = PathBuf::from(own.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned()));
    own.ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}
