//! Draws runs as a tree, for people.

use corral_api::{RunNode, RunStateView};
use time::OffsetDateTime;

use crate::text::{duration, visible};

/// One line for each run, children below their parent.
#[must_use]
pub(crate) fn draw(roots: &[RunNode], now: OffsetDateTime) -> String {
    let mut lines: Vec<String> = Vec::new();
    for root in roots {
        lines.push(format!("{}  {}", line(root, now), origin(root)));
        draw_children(&root.children, "", now, &mut lines);
    }
    lines.join("\n")
}

// As deep as a run may be, which a limit bounds.
fn draw_children(children: &[RunNode], indent: &str, now: OffsetDateTime, lines: &mut Vec<String>) {
    for (index, child) in children.iter().enumerate() {
        let is_last = index + 1 == children.len();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indent}{branch}{}", line(child, now)));
        draw_children(&child.children, &format!("{indent}{below}"), now, lines);
    }
}

fn line(run: &RunNode, now: OffsetDateTime) -> String {
    let sessions = match run.sessions {
        0 => String::new(),
        1 => ", 1 session".to_owned(),
        count => format!(", {count} sessions"),
    };
    let state = match run.state {
        RunStateView::Active => {
            format!("active{sessions}, {} left{}", duration(run.expires_at - now), budgets(run))
        }
        RunStateView::Ended => {
            let reason = run.end_reason.map_or("ended", crate::words::run_end);
            match run.ended_at {
                Some(at) => format!("{reason}, {} ago{sessions}", duration(now - at)),
                None => format!("{reason}{sessions}"),
            }
        }
    };
    // The name of such a run is its program's, as a wrapper saw it.
    let observed = if run.process.is_some() { ", observed" } else { "" };
    let grant = if run.actions.is_empty() {
        String::new()
    } else {
        format!(" [{}]", visible(&run.actions.join(", ")))
    };
    format!("{} ({}) {state}{observed}{grant}", visible(&run.name), run.run_id)
}

/// What it may still use, where that is limited.
fn budgets(run: &RunNode) -> String {
    let left = [
        ("statements", run.left.statements),
        ("writes", run.left.writes),
        ("rows", run.left.rows),
        ("bytes", run.left.bytes),
    ];
    let left = left.into_iter().filter_map(|(what, left)| Some(format!(", {} {what} left", left?)));
    left.collect()
}

/// Whose tree it is.
fn origin(root: &RunNode) -> String {
    if root.principal == root.sponsor {
        return format!("by {}", root.principal);
    }
    format!("by {}, sponsor {}", root.principal, root.sponsor)
}

#[cfg(test)]
mod tests {
    use corral_model::RunEnd;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 00:10 UTC);

    fn run(id: &str, sessions: u64, children: Vec<RunNode>) -> RunNode {
        RunNode {
            run_id: format!("run_{id}").parse().expect("an id"),
            name: id.to_owned(),
            principal: "nightly".parse().expect("a name"),
            sponsor: "ada".parse().expect("a name"),
            state: RunStateView::Active,
            end_reason: None,
            sessions,
            process: None,
            statements: 0,
            rows: 0,
            left: corral_api::BudgetLeft::default(),
            actions: Vec::new(),
            started_at: datetime!(2026-01-01 00:00 UTC),
            expires_at: datetime!(2026-01-01 00:15 UTC),
            ended_at: None,
            children,
        }
    }

    #[test]
    fn a_grant_and_what_is_left_of_budgets_stand_behind_the_time() {
        let mut one = run("job", 0, Vec::new());
        one.left = corral_api::BudgetLeft { statements: Some(88), ..Default::default() };
        one.actions = vec!["read".to_owned()];
        let expect = "job (run_job) active, 5m left, 88 statements left [read]  by nightly, \
                      sponsor ada";
        assert_eq!(draw(&[one], NOW), expect);
    }

    #[test]
    fn a_tree_shows_names_states_sessions_and_time() {
        let mut killed = run("e2", 0, Vec::new());
        killed.state = RunStateView::Ended;
        killed.end_reason = Some(RunEnd::Killed);
        killed.ended_at = Some(datetime!(2026-01-01 00:09:30 UTC));
        let planner = run("planner", 1, vec![run("e1", 2, vec![run("x", 0, Vec::new())]), killed]);
        let text = draw(&[run("job", 0, vec![planner, run("last", 0, Vec::new())])], NOW);
        let expect = "\
job (run_job) active, 5m left  by nightly, sponsor ada
├─ planner (run_planner) active, 1 session, 5m left
│  ├─ e1 (run_e1) active, 2 sessions, 5m left
│  │  └─ x (run_x) active, 5m left
│  └─ e2 (run_e2) killed, 30s ago
└─ last (run_last) active, 5m left";
        assert_eq!(text, expect);
    }
}
