//! The demo's small internet: hosts with habits, the artifacts that they have, and what is to become of each.

use longhaul_origin::{
    Answer, Behaviour, Fault, FaultRule, HostConfig, Origin, RateLimit, Reply, RetryAfter, Shape, Target,
};
use serde_json::{Value, json};

/// The hosts and what each is like, for people.
pub(super) const HABITS: [(&str, &str); 12] = [
    ("library", "fast and honest"),
    ("journal", "50 ms before each answer"),
    ("mirror", "sends everybody on to the library"),
    ("attic", "slow: 100 kB a second"),
    ("strict", "wants at most 1 request a second, else 429 and two seconds of quiet"),
    ("formal", "the same, and says so with a date"),
    ("crowded", "tolerates four requests at once and no more"),
    ("flaky", "every sixth file fails with a 500 at first"),
    ("nervous", "breaks the connection in the middle of every sixth file, once"),
    ("hasty", "ends every sixth file too early, once"),
    ("liar", "shows a login page instead of every fifth PDF"),
    ("forgetful", "has lost every fifth file"),
];
const FILES_A_HOST: usize = 25;
/// Fewer where each second file has to wait.
const FILES_A_STRICT_HOST: usize = 12;

/// One artifact, and what is to become of it.
#[derive(Debug)]
pub(super) struct Artifact {
    /// Its line in the list.
    pub(super) record: Value,
    /// Which host's bytes it is to have; `None` if it cannot be had.
    pub(super) bytes_of: Option<(&'static str, String)>,
    /// The reason if it cannot be had.
    pub(super) reason: Option<&'static str>,
}

/// The hosts.
pub(super) fn all() -> Vec<HostConfig> {
    let file = Answer {
        latency_ms: 20,
        ..Answer::document(Shape { min_bytes: 20_000, max_bytes: 120_000, ..Shape::default() })
    };
    let sometimes =
        |fault| Behaviour::answering(file.clone().with_fault(FaultRule::first(fault).on_one_path_in(6)));
    let strict = |retry_after| Behaviour {
        rate: Some(RateLimit { requests: 1, retry_after: Some(retry_after), ..RateLimit::default() }),
        ..Behaviour::answering(file.clone())
    };
    let behaviours = HABITS.map(|(host, _)| {
        let behaviour = match host {
            "journal" => Behaviour::answering(Answer { latency_ms: 50, ..file.clone() }),
            "mirror" => {
                let to = Target::Host { name: "library".to_owned(), path: "/mirrored/".to_owned() };
                let reply = Reply::Redirect { to, status: 302, hops: 0, keep_rest: true };
                Behaviour::default().with_route("/", Answer { reply, ..Answer::default() })
            }
            "attic" => {
                Behaviour::answering(Answer { bandwidth_bytes_per_second: Some(100_000), ..file.clone() })
            }
            "strict" => strict(RetryAfter::seconds(2)),
            "formal" => strict(RetryAfter::date(2)),
            "crowded" => {
                Behaviour::answering(Answer { latency_ms: 300, ..file.clone() }).tolerating_at_once(4)
            }
            "flaky" => sometimes(Fault::Status { status: 500, retry_after: None }),
            "nervous" => sometimes(Fault::ResetInBody { at_percent: 50 }),
            "hasty" => sometimes(Fault::TruncateBody { at_percent: 50 }),
            "liar" => {
                let login = Answer { reply: Reply::LoginPage, ..Answer::default() };
                Behaviour::answering(file.clone()).with_route("/members/", login)
            }
            "forgetful" => Behaviour::answering(file.clone()).with_route("/lost/", Answer::status(404)),
            _ => Behaviour::answering(file.clone()),
        };
        (host, behaviour)
    });
    behaviours
        .into_iter()
        .zip(1..)
        .map(|((host, behaviour), seed)| HostConfig::new(host).seeded(seed).behaving(behaviour))
        .collect()
}

/// The artifacts, host after host: the program itself has to spread the work.
pub(super) fn artifacts(origin: &Origin) -> Vec<Artifact> {
    let mut artifacts = Vec::new();
    for (host, _) in HABITS {
        let files = if matches!(host, "strict" | "formal") { FILES_A_STRICT_HOST } else { FILES_A_HOST };
        for number in 0..files {
            let fifth = number % 5 == 0;
            let (path, bytes_of, reason) = match host {
                "liar" if fifth => (format!("/members/{number}.pdf"), None, Some("challenge-page")),
                "forgetful" if fifth => (format!("/lost/{number}.pdf"), None, Some("gone")),
                "mirror" => {
                    (format!("/{number}.pdf"), Some(("library", format!("/mirrored/{number}.pdf"))), None)
                }
                _ => (format!("/{number}.pdf"), Some((host, format!("/{number}.pdf"))), None),
            };
            let record = json!({
                "id": format!("demo:{host}-{number}"),
                "title": format!("Paper {number} of the {host}"),
                "publication_year": 2000 + number,
                "url": origin.url(host, &path),
                "expect": "pdf",
            });
            artifacts.push(Artifact { record, bytes_of, reason });
        }
    }
    artifacts
}

/// Waits until the hosts together have answered so many requests.
pub(super) async fn answered(origin: &Origin, requests: u64) {
    let answered = || origin.report().hosts.values().map(|host| host.counts.completed_bodies).sum::<u64>();
    // The library is the busiest host; its count moves as long as anything does.
    origin.wait_for("library", |_| answered() >= requests).await;
}

/// How many requests are under way.
pub(super) fn in_flight(origin: &Origin) -> u32 {
    origin.report().hosts.values().map(|host| host.counts.in_flight).sum()
}
