//! A permit for one thing is none for another.

use airunner_app::{
    authn::Caller,
    authz::{Permit, Target, may},
};
use airunner_core::Result;

fn suspend(_: Permit<may::PrincipalsManage>) {}

fn act(caller: &Caller) -> Result<()> {
    suspend(caller.permit::<may::PrincipalsRead>(Target::Any)?);
    Ok(())
}

fn main() {
    let _ = act;
}
