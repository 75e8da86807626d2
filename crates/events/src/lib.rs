//! The one vocabulary of what happened in a run.
//!
//! Whoever wants to know — a progress bar, a log, metrics, an attempts file, a test — is an [`Observer`]. An
//! observer hears and cannot change what happens: it returns nothing, and one that panics is contained by
//! [`Fanout`]. It is called on the path of the work, so it must hand slow work to somebody else.

mod event;
mod observer;

pub use event::{Event, Verb};
pub use observer::{Fanout, Observer, Recorder, Silent};
