//! Code that must not compile, with the compiler's refusal. `TRYBUILD=overwrite` writes the refusals anew.

#[test]
fn unauthorized_code_does_not_compile() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/compile_pass/*.rs");
    tests.compile_fail("tests/compile_fail/*.rs");
}
