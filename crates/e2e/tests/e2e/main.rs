//! What a whole server does, from outside.

mod calls;
mod denial;
mod matrix;
