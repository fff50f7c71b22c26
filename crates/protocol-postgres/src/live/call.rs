//! FunctionCall, libpq's way to large objects: it does what a SELECT of the function does, and is
//! decided and recorded as that.

use super::Live;
use super::client::front;
use super::extended::parameter;
use super::task::{Task, What};
use crate::codec::Head;
use crate::codec::client::decode_function_call;
use crate::deny::Refusal;
use crate::link::{Ending, Link};

/// The functions that may be called so, by number of arguments: those of libpq's large objects.
/// PostgreSQL's own functions keep their OIDs in all versions.
const CALLABLE: &[(u32, &str, usize)] = &[
    (715, "lo_create", 1),
    (952, "lo_open", 2),
    (953, "lo_close", 1),
    (954, "loread", 2),
    (955, "lowrite", 2),
    (956, "lo_lseek", 3),
    (957, "lo_creat", 1),
    (958, "lo_tell", 1),
    (964, "lo_unlink", 1),
    (1004, "lo_truncate", 2),
    (3170, "lo_lseek64", 3),
    (3171, "lo_tell64", 1),
    (3172, "lo_truncate64", 2),
];

impl Live {
    pub(super) fn read_call(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let decoded = decode_function_call(front(link, head));
        let found = decoded.as_ref().ok().and_then(|call| {
            let text = select_of(call.function, call.values.len())?;
            Some((text, call))
        });
        let Some((text, call)) = found else {
            let refusal = Refusal::own(
                "0A000",
                "function calls are supported for large objects only; use SELECT",
            );
            self.refuse_query(refusal, head.frame_len, link);
            return Ok(());
        };
        let parameters = call
            .values
            .iter()
            .map(|(value, is_binary)| parameter(*value, *is_binary, None))
            .collect();
        let text = self.texts.share(&text);
        let task = Task::new(What::Call { parameters }, text, head.frame_len);
        self.resolve(Box::new(task), link)
    }
}

/// The SELECT that does the same.
fn select_of(function: u32, count: usize) -> Option<String> {
    let (_, name, _) =
        CALLABLE.iter().find(|(oid, _, arguments)| *oid == function && *arguments == count)?;
    let arguments: Vec<String> = (1..=count).map(|number| format!("${number}")).collect();
    Some(format!("SELECT pg_catalog.{name}({})", arguments.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_objects_are_called_and_with_all_arguments() {
        let found = |function, count| select_of(function, count);
        assert_eq!(found(952, 2).as_deref(), Some("SELECT pg_catalog.lo_open($1, $2)"));
        assert_eq!(found(964, 1).as_deref(), Some("SELECT pg_catalog.lo_unlink($1)"));
        assert_eq!(found(952, 1), None);
        // lo_import of a file on the server, and a user's function.
        assert_eq!(found(764, 1), None);
        assert_eq!(found(16_384, 0), None);
    }
}
