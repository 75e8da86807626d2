//! The registry for Prometheus: `/metrics`, `/healthz` and `/readyz` on an address of one's own choice.
//!
//! The server answers nobody else's questions and changes nothing. It has neither a password nor encryption: listen on
//! the loopback address, or on a network whose members may know how the run goes.

mod server;
mod text;

pub use self::server::{MetricsServer, Readiness};
pub use self::text::render;
