//! Whether the people who said yes satisfy every term, each person counted for one group only.

use std::collections::BTreeMap;

use corral_gate::HoldTerm;

/// For each approver, the groups that they were in when they approved.
pub(crate) fn is_satisfied(terms: &[HoldTerm], approvers: &[Vec<String>]) -> bool {
    // Two rules that ask the same group are satisfied by the same people; two groups never are.
    let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
    for term in terms {
        let quorum = wanted.entry(term.group.as_str()).or_default();
        *quorum = (*quorum).max(term.quorum.max(1));
    }
    let seats: Vec<&str> = wanted
        .into_iter()
        .flat_map(|(group, quorum)| {
            let count = usize::try_from(quorum).unwrap_or(usize::MAX);
            // More seats than people cannot be filled; one more says so without counting on.
            std::iter::repeat_n(group, count.min(approvers.len() + 1))
        })
        .collect();
    if seats.len() > approvers.len() {
        return false;
    }
    // A matching in a bipartite graph, one augmenting path for each seat (Kuhn's algorithm).
    let mut seat_of: Vec<Option<usize>> = vec![None; approvers.len()];
    (0..seats.len()).all(|seat| {
        let mut was_asked = vec![false; approvers.len()];
        find_person(seat, &seats, approvers, &mut seat_of, &mut was_asked)
    })
}

fn find_person(
    seat: usize,
    seats: &[&str],
    approvers: &[Vec<String>],
    seat_of: &mut [Option<usize>],
    was_asked: &mut [bool],
) -> bool {
    let Some(group) = seats.get(seat) else { return false };
    for (person, groups) in approvers.iter().enumerate() {
        let is_new = was_asked.get(person).is_some_and(|asked| !asked);
        if !is_new || !groups.iter().any(|of_person| of_person == group) {
            continue;
        }
        was_asked[person] = true;
        let is_free = match seat_of[person] {
            None => true,
            Some(other) => find_person(other, seats, approvers, seat_of, was_asked),
        };
        if is_free {
            seat_of[person] = Some(seat);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(group: &str, quorum: u32) -> HoldTerm {
        HoldTerm {
            rule: format!("rule-{group}"),
            group: group.to_owned(),
            quorum,
            reason: String::new(),
            expires_in: None,
        }
    }

    #[test]
    fn every_term_needs_its_own_people() {
        let check = |terms: &[HoldTerm], approvers: &[&[&str]], expect: bool| {
            let approvers: Vec<Vec<String>> = approvers
                .iter()
                .map(|groups| groups.iter().map(|group| (*group).to_owned()).collect())
                .collect();
            assert_eq!(is_satisfied(terms, &approvers), expect, "{terms:?} {approvers:?}");
        };
        check(&[term("dba", 1)], &[], false);
        check(&[term("dba", 1)], &[&["dba"]], true);
        check(&[term("dba", 1)], &[&["sre"]], false);
        check(&[term("dba", 2)], &[&["dba"]], false);
        check(&[term("dba", 2)], &[&["dba"], &["dba"]], true);
        check(&[term("dba", 1), term("dba", 2)], &[&["dba"], &["dba"]], true);
        check(&[term("dba", 2), term("dba", 1)], &[&["dba"]], false);
        // One person in both groups is one person.
        check(&[term("dba", 1), term("sre", 1)], &[&["dba", "sre"]], false);
        check(&[term("dba", 1), term("sre", 1)], &[&["dba", "sre"], &["dba"]], true);
        check(&[term("dba", 1), term("sre", 1)], &[&["dba"], &["dba", "sre"]], true);
        check(&[term("dba", u32::MAX)], &[&["dba"]], false);
        // No term: nothing to satisfy.
        check(&[], &[], true);
    }
}
