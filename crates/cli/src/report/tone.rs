//! The colour of a word of state: whether all is well, something waits for someone, or something is over. Whether
//! anything is coloured is not decided here.

use comfy_table::Color;

/// How a state is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is as it should be.
    Good,
    /// It goes on.
    Busy,
    /// Someone should look.
    Attention,
    /// It is wrong, or taken away.
    Bad,
    /// It is over.
    Past,
}

impl Tone {
    /// The tone of a word; none of one that has none.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "active" | "issued" | "completed" | "yes" | "ok" => Self::Good,
            "running" => Self::Busy,
            "suspended" | "scheduled" | "renewed" | "warning" => Self::Attention,
            "revoked" | "failed" | "timed_out" | "no" | "wrong" => Self::Bad,
            "deleted" | "cancelled" | "skipped" => Self::Past,
            _ => return None,
        })
    }

    /// As the tables want it.
    pub(super) const fn cell(self) -> Color {
        match self {
            Self::Good => Color::DarkGreen,
            Self::Busy => Color::DarkCyan,
            Self::Attention => Color::DarkYellow,
            Self::Bad => Color::DarkRed,
            Self::Past => Color::DarkGrey,
        }
    }

    /// The text in it (ECMA-48 section 8.3.117).
    pub(crate) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Good => 32,
            Self::Busy => 36,
            Self::Attention => 33,
            Self::Bad => 31,
            Self::Past => 90,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
