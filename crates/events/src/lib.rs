//! The one vocabulary of what happened in a run.
//!
//! Whoever wants to know — a progress bar, a log, metrics, an attempts file, a test — is an [`Observer`]. An
//! observer hears and cannot change what happens: it returns nothing, and one that panics or blocks is contained by
//! [`Fanout`]. [`Event::KINDS`] has the whole vocabulary with its meaning; the reference page of the events is made
//! from it.

mod apart;
mod event;
mod fanout;
mod kinds;
mod observer;
mod terms;

pub use event::Event;
pub use fanout::Fanout;
pub use kinds::{EventField, EventKind};
pub use observer::{Observer, Recorder, Silent};
pub use terms::{RequestStatus, Verb, WaitCause};
