//! The shape of a queue: how many jobs, over how many lanes, in which order. longhaul and the floor get the same rows.

use anyhow::Result;
use longhaul_limiter::{Lane, Role};
use longhaul_queue_core::{ArtifactId, NewJob, Place};

/// In which order the lanes' jobs stand in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One job of each lane, then the next of each.
    Interleaved,
    /// All jobs of a lane, then all of the next.
    Grouped,
}

/// Jobs over lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) jobs: usize,
    pub(crate) lanes: usize,
    pub(crate) order: Order,
}

impl Shape {
    pub(crate) fn new(jobs: usize, lanes: usize, order: Order) -> Self {
        Self { jobs, lanes, order }
    }

    pub(crate) fn lane(self, job: usize) -> usize {
        match self.order {
            Order::Interleaved => job % self.lanes,
            Order::Grouped => job * self.lanes / self.jobs,
        }
    }

    pub(crate) fn name(self) -> String {
        let lanes = if self.lanes == 1 { "1 lane".to_owned() } else { format!("{} lanes", self.lanes) };
        let order = match self.order {
            _ if self.lanes == 1 => "",
            Order::Interleaved => ", interleaved",
            Order::Grouped => ", grouped",
        };
        format!("{} jobs, {lanes}{order}", self.jobs)
    }
}

pub(crate) fn lane_name(lane: usize) -> String {
    format!("host{lane:05}.example")
}

pub(crate) fn artifact_id(job: usize) -> String {
    format!("doi:10.1000/bench.{job:08}")
}

/// What a line of an import looks like; also the payload.
pub(crate) fn record(shape: Shape, job: usize) -> String {
    let lane = lane_name(shape.lane(job));
    format!(
        "{{\"id\":\"{}\",\"doi\":\"10.1000/bench.{job:08}\",\"title\":\"On the measurement of queues, part {job}\",\
         \"publication_year\":2024,\"url\":\"https://{lane}/papers/{job:08}.pdf\"}}",
        artifact_id(job)
    )
}

pub(crate) fn place(lane: usize) -> Result<Place> {
    Ok(Place::new(Lane::new(lane_name(lane))?, Role::Artifact))
}

pub(crate) fn new_job(shape: Shape, job: usize) -> Result<NewJob> {
    let id = ArtifactId::new(artifact_id(job))?;
    Ok(NewJob::new(id, record(shape, job)).at(place(shape.lane(job))?))
}
