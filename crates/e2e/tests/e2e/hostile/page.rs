//! Page tokens: a list's own, as it made them.

use airunner_proto::principal::v1::{ListPrincipalsRequest, ListPrincipalsResponse, PrincipalType};
use data_encoding::BASE64URL_NOPAD;
use tonic::Code;

use super::target::Target;
use crate::calls::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_altered_is_refused_or_leads_to_what_its_caller_may_see() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for n in 0..5 {
        let made = admin
            .call(CREATE_PRINCIPAL, &new_principal(&format!("p{n}"), PrincipalType::User))
            .await
            .unwrap();
        assert_eq!(made.code, Code::Ok);
    }
    let page = |page_token: String| ListPrincipalsRequest { page_size: 2, page_token, ..Default::default() };
    let first: ListPrincipalsResponse = admin.ask(LIST_PRINCIPALS, &page(String::new())).await;
    let token = first.next_page_token;
    let text = String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).unwrap()).unwrap();
    let refused = (Code::InvalidArgument, "page-token".to_owned());
    for altered in [
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}\0"),
        token[1..].to_owned(),
        token.to_ascii_uppercase(),
        token.replace(token.chars().last().unwrap(), "+"),
        "\u{202e}".to_owned(),
        "' OR 1=1 --".to_owned(),
        BASE64URL_NOPAD.encode(b"x"),
        BASE64URL_NOPAD.encode(b"\xff\xfe"),
        BASE64URL_NOPAD.encode(format!("j{text}").as_bytes()),
        BASE64URL_NOPAD.encode(format!("{}../admin", &text[..1]).as_bytes()),
        BASE64URL_NOPAD.encode(format!("{}a\0b", &text[..1]).as_bytes()),
        "A".repeat(513),
        "A".repeat(1 << 20),
    ] {
        let answer = admin.refusal(LIST_PRINCIPALS, &page(altered.clone())).await;
        assert_eq!(answer, refused, "{:?}", &altered[..altered.len().min(40)]);
        assert_eq!(admin.refusal(LIST_JOBS, &page(token.clone())).await, refused, "another list's");
    }
    // A cursor is no secret and no right: whoever makes one up starts there, in a list that is filtered as ever.
    let made_up = BASE64URL_NOPAD.encode(format!("{}p3", &text[..1]).as_bytes());
    let rest: ListPrincipalsResponse = admin.ask(LIST_PRINCIPALS, &page(made_up.clone())).await;
    assert_eq!(rest.principals.iter().map(|it| it.principal_id.as_str()).collect::<Vec<_>>(), ["p4"]);
    let nobody = target.client_of("p1").await;
    let denied = nobody.refusal(LIST_PRINCIPALS, &page(made_up)).await;
    assert_eq!(denied, (Code::PermissionDenied, "permission-denied".to_owned()));
    target.is_unharmed().await;
}
