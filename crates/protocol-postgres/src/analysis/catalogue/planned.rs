//! Which functions of an index's predicate or a check the planner may call by itself. It computes
//! what is constant whenever it plans a query of the relation, whatever the query needs of it.

use super::FIRST_USER_OID;
use super::node_text::Tokens;

/// What the planner can make of a part of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It holds a column, and nothing can take that away.
    Open,
    /// A constant that is not NULL.
    Constant,
    /// It may turn out to be constant.
    Doubtful,
}

#[derive(Debug, Default)]
struct Node<'t> {
    kind: &'t str,
    /// What an expression calls: a function, or an operator's function.
    function: u32,
    is_null: bool,
    parts: Vec<Part>,
}

/// Users' functions that an expression calls with nothing that is certainly a column's value, or
/// None when the text is not understood. `tree` is PostgreSQL's own text of the expression:
///
/// ```text
/// {FUNCEXPR :funcid 16384 … :args ({VAR :varno 1 …} {CONST … :constisnull false …}) …}
/// ```
pub(super) fn foldable(tree: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let mut open: Vec<Node<'_>> = Vec::new();
    let mut field = "";
    for token in Tokens(tree) {
        match token.as_bytes().first() {
            Some(b'{') => {
                open.push(Node { kind: token.get(1..).unwrap_or(""), ..Node::default() });
            }
            Some(b'}') => {
                let node = open.pop()?;
                if node.function >= FIRST_USER_OID && !node.parts.contains(&Part::Open) {
                    found.push(node.function);
                }
                if let Some(outer) = open.last_mut() {
                    outer.parts.push(part(&node));
                }
            }
            _ => {
                if let Some(node) = open.last_mut() {
                    match field {
                        ":funcid" | ":opfuncid" => node.function = token.parse().ok()?,
                        ":constisnull" => node.is_null = token != "false",
                        _ => {}
                    }
                }
            }
        }
        field = token;
    }
    open.is_empty().then_some(found)
}

fn part(node: &Node<'_>) -> Part {
    let has_open = node.parts.contains(&Part::Open);
    let is_open = match node.kind {
        "VAR" => true,
        "CONST" if !node.is_null => return Part::Constant,
        // NULL among the arguments may make the whole NULL. What a user's function makes of its
        // arguments is not known.
        "FUNCEXPR" | "OPEXPR" | "SCALARARRAYOPEXPR" => {
            has_open && node.function < FIRST_USER_OID && !node.parts.contains(&Part::Doubtful)
        }
        "RELABELTYPE" | "COERCEVIAIO" | "COLLATEEXPR" | "ARRAY" | "ARRAYEXPR" => has_open,
        // The first one stays, and so does the whole.
        "COALESCE" | "COALESCEEXPR" => node.parts.first() == Some(&Part::Open),
        _ => false,
    };
    if is_open { Part::Open } else { Part::Doubtful }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAR: &str = "{VAR :varno 1 :varattno 1 :vartype 23}";
    const ONE: &str = "{CONST :consttype 23 :constisnull false :constvalue 4 [ 1 0 0 0 ]}";
    const NULL: &str = "{CONST :consttype 23 :constisnull true :constvalue <>}";

    fn call(function: u32, arguments: &[&str]) -> String {
        format!("{{FUNCEXPR :funcid {function} :args ({}) :location 5}}", arguments.join(" "))
    }

    #[test]
    fn only_what_may_be_constant_is_called_by_the_planner() {
        let mine = 16_400;
        let check = |tree: &str, seen: &[u32]| assert_eq!(foldable(tree), Some(seen.to_vec()));
        check("", &[]);
        check(&call(mine, &[]), &[mine]);
        check(&call(mine, &[ONE]), &[mine]);
        check(&call(mine, &[VAR]), &[]);
        check(&call(mine, &[ONE, VAR]), &[]);
        check(&call(mine, &[&call(870, &[VAR])]), &[]);
        check(&call(mine, &[&call(870, &[VAR, NULL])]), &[mine]);
        check(&call(mine, &[&call(870, &[ONE])]), &[mine]);
        check(&call(mine, &[&call(16_401, &[VAR])]), &[mine]);
        check(&format!("({} {})", call(mine, &[VAR]), call(16_401, &[])), &[16_401]);
        let chosen = |first: &str| format!("{{COALESCE :args ({first} {VAR})}}");
        check(&call(mine, &[&chosen(VAR)]), &[]);
        check(&call(mine, &[&chosen(ONE)]), &[mine]);
        let case = format!("{{CASE :args {VAR} :defresult {VAR}}}");
        check(&call(mine, &[&case]), &[mine]);
        let operator = format!("{{OPEXPR :opno 16390 :opfuncid {mine} :args ({VAR} {ONE})}}");
        check(&operator, &[]);
        check(&format!("{{BOOLEXPR :boolop and :args ({operator} {})}}", call(mine, &[])), &[mine]);
        check(&format!("{{X :name a\\ \\}}\\{{b :y {}}}", call(mine, &[VAR])), &[]);
    }

    #[test]
    fn what_is_not_understood_is_not_told() {
        for broken in ["{FUNCEXPR :funcid 16400", "}", "{FUNCEXPR :funcid x}", "{A {B}"] {
            assert_eq!(foldable(broken), None, "{broken}");
        }
    }
}
