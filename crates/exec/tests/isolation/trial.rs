//! Tests of a program that has a main of its own. For the suites of isolation, here and elsewhere.

use libtest_mimic::Trial;

/// A test that runs in a runtime of its own.
pub(crate) fn trial<F: Future<Output = ()> + 'static>(module: &str, name: &str, test: fn() -> F) -> Trial {
    let module = module.strip_prefix("isolation::").unwrap_or(module);
    Trial::test(format!("{module}::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    })
}

/// Lists a module's tests; one that is forgotten here is dead code.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial::trial(module_path!(), stringify!($name), $name)),*]
        }
    };
}
pub(crate) use trials;
