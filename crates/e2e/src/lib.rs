//! Whole servers for tests, in this process and on loopback, with clients that can be as wrong as a test wants.
//! What the product does is not here.

mod clock;
mod forge;
mod gate;
mod http;
mod key_wrap;
mod line;
mod raw;
mod server;
mod wire;

pub use clock::ShiftedClock;
pub use gate::{Closed, Gates, Point};
pub use http::{HttpAnswer, http, http_send, https, https_send};
pub use key_wrap::MemoryKeyWrap;
pub use line::Line;
pub use raw::{Answer, AnswerStream, RawClient, over_body};
pub use server::{Credentials, TestServer, TestServerOptions};
pub use wire::{Wire, WireFrame};
