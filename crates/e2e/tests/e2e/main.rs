//! What a whole server does, from outside.

mod denial;
