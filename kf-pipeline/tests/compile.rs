//! What does not compile, with the words the compiler says it in, and what must compile.

#[path = "compile/accepted.rs"]
mod accepted;

/// Each case's `.stderr` beside it is what a user reads; `TRYBUILD=overwrite` writes them anew.
#[test]
fn wrong_wiring_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile/refused/*.rs");
}
