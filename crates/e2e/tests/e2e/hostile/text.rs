//! Names that look like others, and texts that are more than text.

use airunner_proto::principal::v1::{
    CreatePrincipalRequest, ListPrincipalsRequest, ListPrincipalsResponse, PrincipalType,
    SuspendPrincipalRequest,
};
use tonic::Code;

use super::target::Target;
use crate::calls::*;

/// `admin` and others, as Unicode would have them.
const NAMES: [(&str, &str); 22] = [
    ("written from right to left", "\u{202e}nimda"),
    ("with its direction left open", "admin\u{202a}"),
    ("isolated", "\u{2066}admin\u{2069}"),
    ("with a mark of direction", "admin\u{200f}"),
    ("with a Cyrillic a", "\u{430}dmin"),
    ("with a Greek letter", "adm\u{3b9}n"),
    ("with a Turkish i", "adm\u{131}n"),
    ("with a dotted capital", "ADM\u{130}N"),
    ("with the Kelvin sign", "wor\u{212a}er"),
    ("with a long s", "u\u{17f}er"),
    ("in full width", "\u{ff41}\u{ff44}\u{ff4d}\u{ff49}\u{ff4e}"),
    ("in mathematics", "\u{1d41a}dmin"),
    ("with a ligature", "\u{fb01}le"),
    ("composed (NFC)", "caf\u{e9}"),
    ("decomposed (NFD)", "cafe\u{301}"),
    ("with nothing wide in it", "ad\u{200b}min"),
    ("with a joiner", "ad\u{200d}min"),
    ("with a soft hyphen", "ad\u{ad}min"),
    ("with a byte order mark", "\u{feff}admin"),
    ("with a space that does not break", "admin\u{a0}"),
    ("with a full stop that is none", "admin\u{3002}x"),
    ("with a tag", "admin\u{e0061}"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_looks_like_another_is_none() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for (how, name) in NAMES {
        let create = CreatePrincipalRequest { ..new_principal(name, PrincipalType::User) };
        let answer = admin.call(CREATE_PRINCIPAL, &create).await.unwrap();
        assert_eq!(
            (answer.code, answer.field.as_deref()),
            (Code::InvalidArgument, Some("principal_id")),
            "{how}"
        );
        assert!(answer.message.is_ascii() || !answer.message.contains(name), "{how} is repeated as it is");
        let body = serde_json::json!({ "principalId": name, "type": "PRINCIPAL_TYPE_USER" }).to_string();
        let json = [("content-type", "application/json")];
        let answer = admin.http("POST", "/v1/principals", &json, body.as_bytes()).await.unwrap();
        assert_eq!(answer.status(), 400, "{how}");
        let encoded: Vec<String> = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        for path in [format!("/v1/principals/{encoded}"), format!("/v1/principals/{name}")] {
            // Some of it no URI may hold.
            let Ok(_) = format!("https://localhost{path}").parse::<http::Uri>() else { continue };
            let answer = admin.http("GET", &path, &[], b"").await.unwrap();
            assert_eq!(answer.status(), 400, "{how}");
        }
    }
    let all: ListPrincipalsResponse = admin.ask(LIST_PRINCIPALS, &ListPrincipalsRequest::default()).await;
    assert_eq!(all.principals.len(), 1, "{all:?}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_for_people_has_no_lines_and_no_commands_for_terminals() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let made = admin.call(CREATE_PRINCIPAL, &new_principal("u1", PrincipalType::User)).await.unwrap();
    assert_eq!(made.code, Code::Ok);
    for text in ["a\nb", "a\r\nb", "\u{1b}[2J", "\u{7}", "a\0b", "\u{9b}31m", "\u{85}", "\u{7f}"] {
        let request = SuspendPrincipalRequest { principal_id: "u1".to_owned(), reason: text.to_owned() };
        let answer = admin.call(SUSPEND, &request).await.unwrap();
        assert_eq!(
            (answer.code, answer.field.as_deref()),
            (Code::InvalidArgument, Some("reason")),
            "{text:?}"
        );
        let create = CreatePrincipalRequest {
            description: text.to_owned(),
            ..new_principal("u2", PrincipalType::User)
        };
        let answer = admin.call(CREATE_PRINCIPAL, &create).await.unwrap();
        assert_eq!(
            (answer.code, answer.field.as_deref()),
            (Code::InvalidArgument, Some("description")),
            "{text:?}"
        );
    }
    target.is_unharmed().await;
}
