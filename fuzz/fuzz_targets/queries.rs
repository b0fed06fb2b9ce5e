//! Query strings with their cursors, filters and durations: nothing panics, what is refused is refused as a
//! query, and a cursor that is accepted is the one that the server would have written.
#![no_main]

use dbaas_http::{ProblemKind, query_for_fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    match query_for_fuzzing(query) {
        Ok(cursors) => {
            for cursor in cursors {
                // As it stands there, or with some characters percent-encoded.
                assert!(query.contains(&cursor) || query.contains('%'), "{cursor}");
            }
        }
        Err(problem) => {
            assert!(matches!(problem.kind(), ProblemKind::InvalidQuery), "{problem:?}");
            assert!(format!("{problem:?}").len() < 200_000);
        }
    }
});
