//! Nobody can make up a permission that the list does not hold and have it granted.

use airunner_app::{
    App,
    authn::Caller,
    authz::{Target, may},
    job::line::LineRequest,
};

struct Everything;

fn act(app: &App, caller: &Caller, request: LineRequest) {
    let _ = caller.permit::<Everything>(Target::Any);
    let _ = may::PrincipalsManage {};
    let _ = app.jobs.dequeue(request);
}

fn main() {
    let _ = act;
}
