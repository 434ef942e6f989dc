//! Signs of life on long work, on stderr and for people at a terminal only. What is done is not known here.

use std::{borrow::Cow, time::Duration};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Output;

/// How often it is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A sign of life, taken away when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress {
    /// Says how far it is.
    pub(crate) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Does what writes to the terminal itself, while nothing of this is there.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }

    /// Says what is done now.
    pub(crate) fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.0.set_message(what);
    }
}

/// For work of which nobody knows how long it takes.
pub(crate) fn spinner(output: Output, what: impl Into<Cow<'static, str>>) -> Progress {
    let bar = ProgressBar::with_draw_target(None, target(output));
    show(bar, output, "{spinner} {msg} {elapsed:.dim}", "{spinner} {msg} {elapsed}", what)
}

/// For work of so many steps.
pub(crate) fn bar(output: Output, steps: u64, what: impl Into<Cow<'static, str>>) -> Progress {
    let bar = ProgressBar::with_draw_target(Some(steps), target(output));
    show(bar, output, "{msg} {wide_bar:.cyan} {percent:>3}%", "{msg} {wide_bar} {percent:>3}%", what)
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> impl std::fmt::Display {
    BinaryBytes(count)
}

fn show(
    bar: ProgressBar,
    output: Output,
    coloured: &str,
    plain: &str,
    what: impl Into<Cow<'static, str>>,
) -> Progress {
    let template = if output.has_colour_on_stderr() { coloured } else { plain };
    // The templates are those above; one that were wrong would show the library's own.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(TICK);
    Progress(bar)
}

fn target(output: Output) -> ProgressDrawTarget {
    if output.is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
