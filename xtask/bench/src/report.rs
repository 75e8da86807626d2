//! The figures: a table for people, the same as JSON for machines, and whether each bound is kept.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::machine::{self, median};

/// A bound on a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, and judged by nobody.
    None,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// longhaul's median.
    ours: f64,
    /// The floor's median, where there is one.
    floor: Option<f64>,
    unit: &'static str,
    /// What is bounded: the median of the pairs' ratios, or `ours` itself.
    figure: f64,
    bound: Bound,
    kept: bool,
    all: Vec<f64>,
}

/// All figures of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    fdatasync_ms: f64,
    cores: usize,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn begin(dir: &Path) -> Result<Self> {
        let fdatasync_ms = machine::sync_time(dir)?.as_secs_f64() * 1e3;
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        println!("{cores} cores; fdatasync on {}: {fdatasync_ms:.2} ms", dir.display());
        Ok(Self { fdatasync_ms, cores, rows: Vec::new() })
    }

    /// The disk's fdatasync, measured at the start.
    pub(crate) fn fdatasync(&self) -> Duration {
        Duration::from_secs_f64(self.fdatasync_ms / 1e3)
    }

    /// Pairs of (ours, floor) that were measured in turns; the bound is on the median of ours ÷ floor.
    pub(crate) fn pairs(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        pairs: &[(f64, f64)],
        bound: Bound,
    ) {
        let mut ratios: Vec<f64> = pairs.iter().map(|(ours, floor)| ours / floor).collect();
        let all = ratios.clone();
        let figure = median(&mut ratios);
        let ours = median(&mut pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
        let floor = median(&mut pairs.iter().map(|pair| pair.1).collect::<Vec<_>>());
        self.push(Row { name: name.into(), ours, floor: Some(floor), unit, figure, bound, kept: true, all });
    }

    /// A figure by itself.
    pub(crate) fn figure(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        values: &[f64],
        bound: Bound,
    ) {
        let ours = median(&mut values.to_vec());
        let row = Row {
            name: name.into(),
            ours,
            floor: None,
            unit,
            figure: ours,
            bound,
            kept: true,
            all: values.to_vec(),
        };
        self.push(row);
    }

    fn push(&mut self, mut row: Row) {
        row.kept = match row.bound {
            Bound::AtLeast(least) => row.figure >= least,
            Bound::AtMost(most) => row.figure <= most,
            Bound::None => true,
        };
        let bound = match row.bound {
            Bound::AtLeast(least) => format!(">= {least:.2}"),
            Bound::AtMost(most) => format!("<= {most:.2}"),
            Bound::None => String::new(),
        };
        let floor = row.floor.map_or(String::new(), |floor| format!("floor {}", number(floor)));
        let ratio = row.floor.map_or(String::new(), |_| format!("ratio {:.3}", row.figure));
        let kept = if row.kept { "" } else { "  NOT KEPT" };
        println!(
            "  {:64} {:>12} {:9} {floor:>18}  {ratio:11} {bound:9}{kept}",
            row.name,
            number(row.ours),
            row.unit
        );
        self.rows.push(row);
    }

    /// Whether every bound is kept.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.kept)
    }

    pub(crate) fn end(&self, json: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(json, text).with_context(|| format!("{} cannot be written", json.display()))?;
        let broken = self.rows.iter().filter(|row| !row.kept).count();
        println!("{} figures, {broken} bounds not kept; as JSON in {}", self.rows.len(), json.display());
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
