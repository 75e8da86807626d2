//! How long an import will take: what its lines ask of which host, and a simulated run of the scheduler over that.
//!
//! Nothing here asks the network or touches a queue on disk. Memory is a count for each host, never a job for each line.

mod demand;
mod forecast;
mod simulation;

pub(crate) use demand::Demand;
pub(crate) use forecast::{Change, Forecast, HostForecast};
pub(crate) use simulation::Model;
