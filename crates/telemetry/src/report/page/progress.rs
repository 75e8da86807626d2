//! Pictures over time: what has ended, how many requests a second, how much arrived.

use std::fmt::Write as _;

use super::begin;
use super::scale::{self, Axis, Base};
use super::text::escaped;
use crate::human::bytes;
use crate::report::{ProgressBucket, Report};

/// So many bars fit a small picture.
const MOST_BARS: usize = 90;

/// Where the lines of a picture are.
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

const LARGE: Frame = Frame { width: 1120.0, height: 300.0, left: 58.0, top: 14.0, right: 12.0, bottom: 30.0 };
const SMALL: Frame = Frame { width: 548.0, height: 180.0, left: 66.0, top: 12.0, right: 8.0, bottom: 28.0 };

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + (value / axis.end).min(1.0) * (self.width - self.left - self.right)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.height - self.bottom - value / axis.end * (self.height - self.top - self.bottom)
    }

    fn begin(&self, page: &mut String, label: &str) {
        let _ = writeln!(
            page,
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            self.width,
            self.height,
            escaped(label)
        );
    }

    /// The axes, with thin lines across.
    fn axes(&self, page: &mut String, time: &Axis, values: &Axis, shown: fn(f64) -> String) {
        let (from, to) = (self.left, self.width - self.right);
        for tick in &values.ticks {
            let y = self.y(values, *tick);
            let class = if *tick == 0.0 { "base" } else { "grid" };
            let _ = writeln!(
                page,
                "<line class=\"{class}\" x1=\"{from}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                from - 8.0,
                y + 4.0,
                escaped(&shown(*tick))
            );
        }
        let foot = self.height - self.bottom;
        for tick in &time.ticks {
            let x = self.x(time, *tick);
            // The last label must not leave the picture.
            let anchor = if x > to - 20.0 {
                "end"
            } else if *tick == 0.0 {
                "start"
            } else {
                "middle"
            };
            let _ = writeln!(
                page,
                "<line class=\"base\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{foot}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                foot + 4.0,
                foot + 19.0,
                scale::time(*tick)
            );
        }
    }
}

/// The section.
pub(super) fn section(page: &mut String, report: &Report) {
    begin(page, "progress", "Progress", &when(report));
    let buckets = &report.progress.buckets;
    if buckets.is_empty() {
        let _ = writeln!(page, "<p class=\"nothing\">Nothing happened in this run.</p>\n</section>");
        return;
    }
    ended(page, report);
    let _ = writeln!(page, "<div class=\"pair\">");
    requests(page, report);
    received(page, report);
    let _ = writeln!(page, "</div>\n</section>");
}

/// By when half of what ended had ended, and nine tenths of it: what is slow shows at a run's end.
fn when(report: &Report) -> String {
    let what = "What had ended by when, counted from the run's beginning.".to_owned();
    let buckets = &report.progress.buckets;
    let ended = |bucket: &ProgressBucket| bucket.done + bucket.error + bucket.skipped;
    let all: u64 = buckets.iter().map(ended).sum();
    let by = |tenths: u64| {
        let mut sum = 0;
        let reached = buckets.iter().position(|bucket| {
            sum += ended(bucket);
            sum * 10 >= all * tenths
        });
        let end = reached.map_or(0.0, |at| (at + 1) as f64 * report.progress.bucket_seconds);
        scale::time(end.min(report.seconds))
    };
    // Of a few, no part is worth naming.
    if all < 10 {
        return what;
    }
    format!("{what} Half of it after {}, nine tenths after {}, the last after {}.", by(5), by(9), by(10))
}

/// How high a picture's layer is in a bucket, with those below it.
type Layer = fn(&ProgressBucket) -> u64;

/// Jobs that have ended, one outcome above the other.
fn ended(page: &mut String, report: &Report) {
    let time = Axis::of_time(report.seconds, 10);
    let jobs = &report.jobs;
    let all = jobs.done + jobs.error + jobs.skipped;
    let values = Axis::of(all as f64, 5, Base::Ten, true);
    let _ = writeln!(page, "<figure>");
    LARGE.begin(page, "Artifacts that had ended, by outcome, over time");
    // Lowest first; each layer is drawn from the floor, the highest sum first, so that no seam shows.
    let layers: [(&str, Layer); 3] = [
        ("skipped", |bucket| bucket.done + bucket.error + bucket.skipped),
        ("error", |bucket| bucket.done + bucket.error),
        ("done", |bucket| bucket.done),
    ];
    let floor = LARGE.y(&values, 0.0);
    for (class, of) in layers {
        let mut points = format!("M{:.1} {floor:.1}", LARGE.left);
        let mut sum = 0;
        let mut x = LARGE.left;
        for (index, bucket) in report.progress.buckets.iter().enumerate() {
            sum += of(bucket);
            x = LARGE.x(&time, (index + 1) as f64 * report.progress.bucket_seconds);
            let _ = write!(points, "L{x:.1} {:.1}", LARGE.y(&values, sum as f64));
        }
        let end = LARGE.width - LARGE.right;
        if x < end {
            let _ = write!(points, "H{end}");
        }
        let _ = writeln!(page, "<path class=\"{class}\" d=\"{points}V{floor:.1}Z\"/>");
    }
    LARGE.axes(page, &time, &values, scale::number);
    let _ = writeln!(page, "</svg>\n</figure>");
}

/// Buckets put together so that their bars can be told apart: from, length in seconds, sum.
fn bars(report: &Report) -> Vec<(f64, f64, ProgressBucket)> {
    let buckets = &report.progress.buckets;
    let group = buckets.len().div_ceil(MOST_BARS).max(1);
    let width = report.progress.bucket_seconds * group as f64;
    let sum = |group: &[ProgressBucket]| {
        group.iter().fold(ProgressBucket::default(), |sum, bucket| ProgressBucket {
            done: sum.done + bucket.done,
            skipped: sum.skipped + bucket.skipped,
            error: sum.error + bucket.error,
            requests: sum.requests + bucket.requests,
            throttled: sum.throttled + bucket.throttled,
            received_bytes: sum.received_bytes + bucket.received_bytes,
        })
    };
    let bars = buckets.chunks(group).enumerate().map(|(index, group)| {
        let from = index as f64 * width;
        // The last one may end with the run; were it taken for a whole one, its speed would be too low, and for less
        // than a bucket, too high.
        let length = (report.seconds - from).clamp(report.progress.bucket_seconds, width);
        (from, length, sum(group))
    });
    bars.collect()
}

fn bar(
    page: &mut String,
    class: &str,
    time: &Axis,
    values: &Axis,
    (from, length): (f64, f64),
    (low, high): (f64, f64),
) {
    if high <= low {
        return;
    }
    let (x, end) = (SMALL.x(time, from), SMALL.x(time, from + length));
    let (top, foot) = (SMALL.y(values, high), SMALL.y(values, low));
    // What is there is seen, however little it is: above all a host that asks for quiet.
    let height = (foot - top).max(if class == "throttled" { 4.0 } else { 1.5 });
    // A hair apart, unless that would be most of it.
    let gap = if end - x > 3.0 { 1.0 } else { 0.0 };
    let _ = writeln!(
        page,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
        foot - height,
        (end - x - gap).max(0.5)
    );
}

/// Requests a second, and how many of them were asked for quiet.
fn requests(page: &mut String, report: &Report) {
    let bars = bars(report);
    let time = Axis::of_time(report.seconds, 6);
    let most = bars.iter().map(|(_, length, bucket)| bucket.requests as f64 / length).fold(0.0, f64::max);
    let values = Axis::of(most, 4, Base::Ten, false);
    let _ = writeln!(
        page,
        "<figure>\n<figcaption>Requests a second <span class=\"key\"><i class=\"requests\"></i>started \
         <i class=\"throttled\"></i>answered 429 or 503</span></figcaption>"
    );
    SMALL.begin(page, "Requests a second over time");
    for (from, length, bucket) in &bars {
        let quiet = bucket.throttled as f64 / length;
        let at = (*from, *length);
        bar(page, "requests", &time, &values, at, (0.0, bucket.requests as f64 / length));
        bar(page, "throttled", &time, &values, at, (0.0, quiet.min(values.end)));
    }
    SMALL.axes(page, &time, &values, scale::number);
    let _ = writeln!(page, "</svg>\n</figure>");
}

/// Bytes a second.
fn received(page: &mut String, report: &Report) {
    let bars = bars(report);
    let time = Axis::of_time(report.seconds, 6);
    let most =
        bars.iter().map(|(_, length, bucket)| bucket.received_bytes as f64 / length).fold(0.0, f64::max);
    let values = Axis::of(most, 4, Base::Two, true);
    let _ = writeln!(page, "<figure>\n<figcaption>Received a second</figcaption>");
    SMALL.begin(page, "Bytes received a second over time");
    for (from, length, bucket) in &bars {
        bar(page, "bytes", &time, &values, (*from, *length), (0.0, bucket.received_bytes as f64 / length));
    }
    SMALL.axes(page, &time, &values, |value| bytes(value as u64).replace(".0 ", " "));
    let _ = writeln!(page, "</svg>\n</figure>");
}
