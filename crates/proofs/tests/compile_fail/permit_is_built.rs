//! A permit comes from a caller that was asked for it.

use airunner_app::{
    authn::Caller,
    authz::{Permit, may},
};

fn help_yourself(caller: Caller) -> Permit<may::PrincipalsManage> {
    Permit { caller, permission: std::marker::PhantomData }
}

fn main() {
    let _ = help_yourself;
}
