//! Imports into the reference queue, from real files.

use std::io::Write;
use std::path::Path;

use longhaul_limiter::{LaneRules, ManualClock};
use longhaul_queue_core::{MemoryQueue, QueueAdmin, WorkQueue};
use tempfile::TempDir;

use super::*;
use crate::exit::UsageError;
use crate::store::Store;

/// A queue and a folder, fresh for each test.
struct Bench {
    folder: TempDir,
    queue: Arc<MemoryQueue>,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new();
        let queue = Arc::new(MemoryQueue::new(Arc::new(clock.clone())));
        Self { folder: TempDir::new().unwrap(), queue, clock }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn import(&self, files: &[&Path], change: impl FnOnce(&mut Import)) -> Result<Imported> {
        let sources = files.iter().map(|path| Source::open(path).unwrap()).collect();
        let mut import = Import { input: Input::Lines(sources), limit: None, rejects: None, strict: false };
        change(&mut import);
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let store = Store {
            path: PathBuf::from("memory"),
            queue: Arc::clone(&self.queue) as Arc<dyn WorkQueue>,
            admin: Arc::clone(&self.queue) as Arc<dyn QueueAdmin>,
            id: "memory".to_owned(),
            keying: LaneRules::default().keying,
        };
        let importer = Importer {
            store: &Opening::opened(store),
            making: Making { keying: LaneRules::default().keying, clock: Arc::clone(&clock) },
            clock,
            console: &Console::new(true),
            signals: None,
        };
        importer.run(import).await
    }

    async fn total(&self) -> u64 {
        self.queue.stats().await.unwrap().counts.total()
    }
}

fn numbers(report: &ImportReport) -> (u64, u64, u64, u64) {
    (report.lines, report.added, report.duplicates, report.rejected)
}

#[tokio::test]
async fn inv_idempotent_an_import_adds_nothing_the_second_time() {
    let bench = Bench::new();
    let file = bench.file(
        "a.jsonl",
        "{\"id\":\"a\"}\n10.1000/X\nhttps://doi.org/10.1000/x\n\nhttps://example.org/a.pdf\n",
    );
    let first = bench.import(&[&file], |_| ()).await.unwrap();
    assert_eq!((numbers(&first.report), first.report.blank, first.exit), ((5, 3, 1, 0), 1, Exit::Success));
    let second = bench.import(&[&file], |_| ()).await.unwrap();
    assert_eq!((numbers(&second.report), second.exit), ((5, 0, 4, 0), Exit::Success));
    assert_eq!(second.report.remark().unwrap(), "nothing new: all of it was in the queue already");
    assert_eq!(bench.total().await, 3);
}

#[tokio::test]
async fn a_bad_line_is_kept_with_its_reason_and_the_rest_goes_in() {
    let bench = Bench::new();
    let mut content = b"\xef\xbb\xbf{\"id\":\"a\"}\r\nnonsense\n{\"id\":7}\n\xff\xfe\n".to_vec();
    content.extend(b"x".repeat(2 << 20));
    content.extend(b"\n{\"id\":\"b\"}");
    let file = bench.file("a.jsonl", content);
    let rejects = bench.folder.path().join("rejects.jsonl");
    let imported = bench.import(&[&file], |import| import.rejects = Some(rejects.clone())).await.unwrap();
    assert_eq!((numbers(&imported.report), imported.exit), ((6, 2, 0, 4), Exit::Rejected));
    let kept = std::fs::read_to_string(rejects).unwrap();
    let kept: Vec<serde_json::Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> =
        kept.iter().map(|line| (line["line"].as_u64().unwrap(), line["reason"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            (2, "\"nonsense\" is neither a JSON object, a DOI nor a URL"),
            (3, "`id` is a number where text belongs"),
            (4, "the line is not UTF-8 at column 1"),
            (5, "the line is longer than 1 MiB"),
        ]
    );
    assert_eq!(kept[0]["text"], "nonsense");
    assert_eq!((kept[3]["cut"].as_bool(), kept[3]["text"].as_str().unwrap().len()), (Some(true), 4096));
}

#[tokio::test]
async fn strict_takes_all_or_nothing() {
    let bench = Bench::new();
    let good = bench.file("good", "{\"id\":\"a\"}\n");
    let bad = bench.file("bad", "{\"id\":\"b\"}\n{\n");
    let imported = bench.import(&[&good, &bad], |import| import.strict = true).await.unwrap();
    assert_eq!((imported.report.rejected, imported.report.added, imported.exit), (1, 0, Exit::Rejected));
    assert_eq!(bench.total().await, 0);
    let imported = bench.import(&[&good], |import| import.strict = true).await.unwrap();
    assert_eq!((numbers(&imported.report), imported.exit), ((1, 1, 0, 0), Exit::Success));
}

#[tokio::test]
async fn strict_reads_a_pipe_twice() {
    let bench = Bench::new();
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n").unwrap();
    drop(write);
    let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read)));
    let imported = bench.import(&[&path], |import| import.strict = true).await.unwrap();
    assert_eq!(numbers(&imported.report), (2, 2, 0, 0));
}

#[tokio::test]
async fn a_limit_takes_the_first_artifacts_of_all_files() {
    let bench = Bench::new();
    let first = bench.file("1", "bad\n{\"id\":\"a\"}\n\n");
    let second = bench.file("2", "{\"id\":\"b\"}\n{\"id\":\"c\"}\n{\"id\":\"d\"}\n");
    let imported = bench.import(&[&first, &second], |import| import.limit = Some(2)).await.unwrap();
    assert_eq!(numbers(&imported.report), (4, 2, 0, 1));
    assert!(imported.report.limit_reached);
    let imported = bench.import(&[&second], |import| import.limit = Some(3)).await.unwrap();
    assert_eq!((numbers(&imported.report), imported.report.limit_reached), ((3, 2, 1, 0), false));
}

#[tokio::test]
async fn many_batches_keep_their_order_and_their_count() {
    let bench = Bench::new();
    let lines: Vec<String> = (0..2_500).map(|number| format!("{{\"id\":\"n{number}\"}}")).collect();
    let file = bench.file("many", lines.join("\n"));
    let imported = bench.import(&[&file], |_| ()).await.unwrap();
    assert_eq!(numbers(&imported.report), (2_500, 2_500, 0, 0));
    let (record, _) = bench.queue.get(&ArtifactId::new("n2499").unwrap()).await.unwrap().unwrap();
    assert_eq!(record.id.0, 2_500);
}

#[tokio::test]
async fn a_record_becomes_a_job_with_its_place_its_class_and_its_time() {
    let bench = Bench::new();
    let wall = bench.clock.wall() + Duration::from_hours(1);
    let at = wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // 20,000 days after the epoch, as the clock starts, is 2024-10-04.
    assert_eq!(at, 20_000 * 86_400 + 3_600);
    let line = r#"{"id":"a","url":"https://export.arxiv.org/pdf/1","priority":7,"max_attempts":2,"resolver_hint":"arxiv","available_at":"2024-10-04T01:00:00Z"}"#;
    let record = Record::parse_line(line).unwrap().unwrap();
    let making = Making { keying: LaneRules::default().keying, clock: Arc::new(bench.clock.clone()) };
    let job = new_job(&record, &making).unwrap();
    assert_eq!(job.place.lane.as_str(), "arxiv.org");
    assert_eq!(
        (job.priority.get(), job.max_attempts, job.resolver_hint.as_deref()),
        (7, Some(2), Some("arxiv"))
    );
    assert_eq!(job.delay, Duration::from_hours(1));
    assert_eq!(job.payload, line);
}

#[tokio::test]
async fn what_is_no_text_is_refused_as_a_whole() {
    let bench = Bench::new();
    let zipped = bench.file("a.jsonl.zip", b"PK\x03\x04\0\0\0\0");
    let said = bench.import(&[&zipped], |_| ()).await.unwrap_err();
    assert!(format!("{said:#}").contains("is a zip archive, not lines of text"), "{said:#}");
    let folder = Source::open(bench.folder.path()).unwrap_err();
    assert!(folder.to_string().ends_with("is a folder; name the files in it"), "{folder}");
}

#[tokio::test]
async fn the_rejects_never_overwrite_what_is_imported() {
    let bench = Bench::new();
    let file = bench.file("a", "bad\n");
    let error = bench.import(&[&file], |import| import.rejects = Some(file.clone())).await.unwrap_err();
    assert!(error.is::<UsageError>(), "{error:#}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "bad\n");
}

fn packed(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

#[tokio::test]
async fn packed_files_are_imported_and_may_be_read_twice() {
    let bench = Bench::new();
    let file = bench.file("a", packed("{\"id\":\"a\"}\n{\"id\":\"b\"}\n"));
    let imported = bench.import(&[&file], |import| import.strict = true).await.unwrap();
    assert_eq!(numbers(&imported.report), (2, 2, 0, 0));
}

/// INV-NO-LOSS for whoever imports: what could be read is in, and the message says where that ends.
#[tokio::test]
async fn the_lines_before_the_end_of_a_cut_archive_are_in() {
    let bench = Bench::new();
    let lines: Vec<String> =
        (0..30_000).map(|number| format!("{{\"id\":\"n{}\"}}", number * 7_919 % 30_000)).collect();
    let whole = packed(&lines.join("\n"));
    let file = bench.file("a.zst", &whole[..whole.len() * 2 / 3]);
    let error = bench.import(&[&file], |_| ()).await.unwrap_err();
    let said = format!("{error:#}");
    let total = bench.total().await;
    assert!(total > 1_000 && total % 1_000 != 0, "{total}: the last batch, not a full one, is in too");
    let line = crate::output::count(total);
    assert!(
        said.contains(&format!("a.zst cannot be read after line {line}: the zstd in it is cut off")),
        "{said}"
    );
    assert!(said.contains(&format!("the import ended early: {line} artifacts are in")), "{said}");
}
