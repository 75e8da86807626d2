//! The configuration as a person meets it: what wins, where it came from, what is wrong with it. And what is printed of
//! the command line: completions, the manual, the reference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The program in a folder of its own, with nothing of the environment that could change what it does.
fn longhaul(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    command.envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed and how it ended, as one text.
fn run(folder: &Path, args: &[&str]) -> String {
    let output = longhaul(folder, args, &[]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("exit {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
}

fn write(folder: &Path, name: &str, file: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file).unwrap();
}

/// Of a key: its value, what kind of source it has, and where.
fn shown(output: &Output, key: &str) -> (Value, String, Value) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = shown["values"].as_array().unwrap().iter().find(|row| row["key"] == key);
    let row = row.unwrap_or_else(|| panic!("{key} is not shown"));
    (row["value"].clone(), row["from"].as_str().unwrap().to_owned(), row["place"].clone())
}

const EVERYTHING: &str = r#"
[queue]
backend = "sqlite"
path = "q.sqlite"
wal_mode = true
durability = "normal"

[orchestrator]
max_workers = 3
max_per_host = 2
lease_ttl_seconds = 90.5
drain = true

[budgets]
max_bytes = "10MiB"
max_runtime_seconds = 7200

[http]
contact = "you@example.org"
allow_networks = ["127.0.0.0/8", "10.1.0.0/16"]

[rate]
"*" = "1/s"
"export.arxiv.org" = "1/5s"

[headers."api.core.ac.uk"]
Authorization = "Bearer hunter2"

[log]
level = "info"
"#;

#[test]
fn help_tells_all() {
    let folder = TempDir::new().unwrap();
    for args in [&["config"][..], &["config", "show"], &["config", "check"], &["completions"], &["man"]] {
        let name = args.join(" ");
        let shown = longhaul(folder.path(), &[args, &["--help"]].concat(), &[("COLUMNS", "80")]);
        let help = text(&shown.stdout);
        assert!(shown.status.success() && help.contains(&format!("longhaul {name}")), "{help}");
        assert!(!help.contains("--durability"), "{help}");
        insta::assert_snapshot!(format!("help_{}", args.join("_")), help);
    }
}

#[test]
fn every_setting_is_shown_with_its_source_and_secrets_are_not() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "longhaul.toml", EVERYTHING);
    let table = run(folder.path(), &["config", "show"]);
    assert!(!table.contains("hunter2"), "{table}");
    insta::assert_snapshot!("show", table);
    let json = longhaul(folder.path(), &["config", "show", "--format", "json"], &[]);
    assert!(!text(&json.stdout).contains("hunter2"));
    let check = |key: &str, value: Value, line: u32| {
        let place = json!(format!("longhaul.toml:{line}"));
        assert_eq!(shown(&json, key), (value, "file".to_owned(), place), "{key}");
    };
    check("orchestrator.max_workers", json!(3), 9);
    check("orchestrator.lease_ttl_seconds", json!(90.5), 11);
    check("orchestrator.drain", json!(true), 12);
    check("budgets.max_bytes", json!(10 << 20), 15);
    check("http.allow_networks", json!(["127.0.0.0/8", "10.1.0.0/16"]), 20);
    check("rate.\"arxiv.org\"", json!("1/5s"), 24);
    check("headers.\"api.core.ac.uk\".Authorization", json!("***"), 27);
    let default = |value: Value| (value, "default".to_owned(), Value::Null);
    assert_eq!(shown(&json, "orchestrator.max_losses"), default(json!(5)));
    assert_eq!(shown(&json, "budgets.max_jobs"), default(Value::Null));
    assert_eq!(shown(&json, "rate.\"api.openalex.org\""), default(json!("10/s")));
}

/// What a run would make of its flags is seen without starting one.
#[test]
fn the_flags_of_a_run_are_shown_with_the_rest() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "longhaul.toml", EVERYTHING);
    let flags =
        ["config", "show", "--format", "json", "--", "--workers", "5", "--dedupe", "--rate", "a.example=1/s"];
    let flags = [&flags[..], &["--header", "a.example=X:hunter2"]].concat();
    let output = longhaul(folder.path(), &flags, &[]);
    assert!(!text(&output.stdout).contains("hunter2"));
    let of_flag = |value: Value, flag: &str| (value, "flag".to_owned(), json!(flag));
    assert_eq!(shown(&output, "orchestrator.max_workers"), of_flag(json!(5), "--workers"));
    assert_eq!(shown(&output, "files.dedupe"), of_flag(json!(true), "--dedupe"));
    assert_eq!(shown(&output, "rate.\"a.example\""), of_flag(json!("1/s"), "--rate"));
    assert_eq!(shown(&output, "headers.\"a.example\".X"), of_flag(json!("***"), "--header"));
    assert_eq!(shown(&output, "orchestrator.max_per_host").1, "file");
    let wrong = run(folder.path(), &["config", "show", "--", "--workers", "none"]);
    assert!(wrong.starts_with("exit 2\n") && wrong.contains("--workers"), "{wrong}");
}

/// The whole table of who wins: with each source taken away, the next one holds.
#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "longhaul.toml", "[queue]\npath = \"file.sqlite\"\n");
    let show = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "show", "--format", "json"], args].concat();
        shown(&longhaul(folder.path(), &args, variables), "queue.path")
    };
    let expected = |value: &str, from: &str, place: &str| (json!(value), from.to_owned(), json!(place));
    let variable = [("LONGHAUL_QUEUE", "variable.sqlite")];
    let flag = ["--queue", "flag.sqlite"];
    assert_eq!(show(&flag, &variable), expected("flag.sqlite", "flag", "--queue"));
    assert_eq!(show(&[], &variable), expected("variable.sqlite", "environment", "LONGHAUL_QUEUE"));
    assert_eq!(show(&[], &[]), expected("file.sqlite", "file", "longhaul.toml:2"));
    // And what is shown is what is used.
    let there = |name: &str| folder.path().join(name).exists();
    for (args, variables, used) in [
        (&["queue", "enqueue", "a", "--queue", "flag.sqlite"][..], &variable[..], "flag.sqlite"),
        (&["queue", "enqueue", "a"], &variable, "variable.sqlite"),
        (&["queue", "enqueue", "a"], &[], "file.sqlite"),
    ] {
        assert!(!there(used));
        assert!(longhaul(folder.path(), args, variables).status.success());
        assert!(there(used), "{used}");
    }
    std::fs::remove_file(folder.path().join("longhaul.toml")).unwrap();
    assert_eq!(show(&[], &[]), (json!("state/workqueue.sqlite"), "default".to_owned(), Value::Null));
}

#[test]
fn rates_are_merged_host_by_host() {
    let folder = TempDir::new().unwrap();
    write(
        folder.path(),
        "longhaul.toml",
        "[rate]\n\"*\" = \"1/s\"\n\"a.example\" = \"1/s\"\n\"b.example\" = \"1/s\"\n",
    );
    let variables = [("LONGHAUL_RATE", "a.example=2/s,c.example=3/s")];
    let output = longhaul(folder.path(), &["config", "show", "--format", "json"], &variables);
    let rate = |host: &str| {
        let (value, from, _) = shown(&output, &format!("rate.\"{host}\""));
        (value.as_str().unwrap().to_owned(), from)
    };
    let expected = |rate: &str, from: &str| (rate.to_owned(), from.to_owned());
    assert_eq!(rate("*"), expected("1/s", "file"));
    assert_eq!(rate("a.example"), expected("2/s", "environment"));
    assert_eq!(rate("b.example"), expected("1/s", "file"));
    assert_eq!(rate("c.example"), expected("3/s", "environment"));
    assert_eq!(rate("arxiv.org"), expected("1/3s", "default"));
}

#[test]
fn the_file_is_found_where_it_is_documented_to_be() {
    let folder = TempDir::new().unwrap();
    let file = |path: &str| format!("[queue]\npath = \"{path}\"\n");
    let home = folder.path().join("home");
    write(&home, ".config/longhaul/longhaul.toml", &file("home"));
    write(&home, "xdg/longhaul/longhaul.toml", &file("xdg"));
    let (home, xdg) = (home.to_str().unwrap(), home.join("xdg"));
    let path = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "show", "--format", "json"], args].concat();
        shown(&longhaul(folder.path(), &args, variables), "queue.path").0
    };
    assert_eq!(path(&[], &[("HOME", home)]), "home");
    assert_eq!(path(&[], &[("HOME", home), ("XDG_CONFIG_HOME", xdg.to_str().unwrap())]), "xdg");
    write(folder.path(), "longhaul.toml", &file("here"));
    assert_eq!(path(&[], &[("HOME", home)]), "here");
    write(folder.path(), "other.toml", &file("other"));
    assert_eq!(path(&[], &[("LONGHAUL_CONFIG", "other.toml")]), "other");
    write(folder.path(), "named.toml", &file("named"));
    assert_eq!(path(&["-c", "named.toml"], &[("LONGHAUL_CONFIG", "other.toml")]), "named");
    let missing = run(folder.path(), &["queue", "stats", "--config", "nowhere.toml"]);
    assert!(
        missing.starts_with("exit 2\n") && missing.contains("nowhere.toml: the file cannot be read"),
        "{missing}"
    );
}

#[test]
fn all_faults_are_named_at_once_with_their_places() {
    let folder = TempDir::new().unwrap();
    write(
        folder.path(),
        "longhaul.toml",
        "workers = 3\n[orchestrator]\nmax_worker = 3\nmax_per_host = \"many\"\nmax_workers = 300\n[queue]\nwal_mode = false\nbackend = \"mysql\"\n[rate]\narxiv.org = \"1/3s\"\n\"example.org\" = \"2/x\"\n[headers.\"a.example\"]\n\"X Y\" = \"hunter2\"\n[files]\nlayout = \"round\"\n[orchestrater]\nzzz = 1\n",
    );
    let check = run(folder.path(), &["config", "check"]);
    assert!(!check.contains("hunter2"), "{check}");
    insta::assert_snapshot!("check", check);
    // The same for every command, and nothing is made.
    let stats = run(folder.path(), &["queue", "stats"]);
    assert_eq!(stats, check);
    let output = longhaul(folder.path(), &["config", "check", "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["faults"].as_array().unwrap().len(), 11);
    assert_eq!(
        checked["faults"][1],
        json!({
            "place": "longhaul.toml:3",
            "key": "orchestrator.max_worker",
            "message": "there is no such key; did you mean orchestrator.max_workers?",
        })
    );
}

#[test]
fn values_that_are_wrong_together_are_named_by_their_place() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "longhaul.toml", "[orchestrator]\nlease_ttl_seconds = 20\nheartbeat_seconds = 12\n");
    let said = "error: longhaul.toml:3: orchestrator.heartbeat_seconds: --heartbeat 12s must be more than nothing and less than a third of --lease-ttl (20s)\n";
    for args in [&["config", "check"][..], &["queue", "run", "--drain"]] {
        let shown = run(folder.path(), args);
        assert!(shown.starts_with("exit 2\n--- stdout\n--- stderr\n") && shown.ends_with(said), "{shown}");
    }
    let variables = [("LONGHAUL_HEARTBEAT", "0s"), ("LONGHAUL_WORKERS", "0")];
    let output = longhaul(folder.path(), &["config", "check"], &variables);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("LONGHAUL_WORKERS: orchestrator.max_workers: 0 is out of range; write a whole number from 1 to 256"), "{said}");
    let output = longhaul(folder.path(), &["config", "check"], &variables[..1]);
    assert!(text(&output.stderr).starts_with("error: LONGHAUL_HEARTBEAT: "), "{}", text(&output.stderr));
}

#[test]
fn a_good_file_passes_and_none_is_no_fault() {
    let folder = TempDir::new().unwrap();
    insta::assert_snapshot!("check_of_nothing", run(folder.path(), &["config", "check"]));
    let output = longhaul(folder.path(), &["config", "check"], &[("LONGHAUL_WORKER", "3")]);
    let said = text(&output.stderr);
    assert!(
        said.contains("warning: LONGHAUL_WORKER is no setting; did you mean LONGHAUL_WORKERS?"),
        "{said}"
    );
    write(folder.path(), "longhaul.toml", EVERYTHING);
    assert_eq!(
        run(folder.path(), &["config", "check"]),
        "exit 0\n--- stdout\nlonghaul.toml: 16 values, no fault\n--- stderr\n"
    );
}

/// What runs go by, the commands go by that say what runs will do and have done.
#[test]
fn the_limits_and_the_folder_of_a_run_hold_for_those_who_look_at_it() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let file = |contact: &str| {
        format!(
            "[orchestrator]\nmax_per_host = 1\n[rate]\n\"example.org\" = \"1/h\"\n[files]\noutput_dir = \"papers\"\n{contact}"
        )
    };
    write(folder, "longhaul.toml", &file(""));
    let enqueued = longhaul(folder, &["queue", "enqueue", "https://example.org/a.pdf"], &[]);
    assert!(enqueued.status.success());
    let lane = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["queue", "lanes", "--format", "json"], args].concat();
        let output = longhaul(folder, &args, variables);
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        (shown["lanes"][0]["cap"].clone(), shown["lanes"][0]["pace"].clone())
    };
    assert_eq!(lane(&[], &[]), (json!(1), json!("1/h")));
    let flags = ["--rate", "example.org=3/h", "--max-per-host", "2"];
    assert_eq!(lane(&flags, &[("LONGHAUL_RATE", "example.org=2/h")]), (json!(2), json!("3/h")));
    // Weaker sources go on for hosts that a stronger one does not name.
    assert_eq!(lane(&["--rate", "*=9/s"], &[("LONGHAUL_RATE", "example.org=2/h")]), (json!(1), json!("2/h")));
    assert_eq!(lane(&["--rate", "*=9/s"], &[]), (json!(1), json!("1/h")));
    // Each is judged as a run judges it.
    write(folder, "longhaul.toml", &file("[http]\ncontact = \"nobody\"\n"));
    let checked = run(folder, &["config", "check"]);
    assert!(checked.starts_with("exit 2\n") && checked.contains("http.contact"), "{checked}");
}

/// In a file they would hold for every later call.
#[test]
fn what_one_call_is_to_do_has_no_key() {
    let folder = TempDir::new().unwrap();
    for line in [
        "import.limit = 1",
        "list.limit = 1",
        "retry_failed.limit = 1",
        "retry_failed.dry_run = true",
        "lanes.after = \"example.org\"",
        "pause.for_seconds = 1",
        "pause.lane = \"example.org\"",
        "prune.older_than_seconds = 1",
        "check.fast = true",
        "check.repair = true",
        "stats.watch = true",
    ] {
        write(folder.path(), "longhaul.toml", line);
        let shown = run(folder.path(), &["config", "check"]);
        assert!(shown.starts_with("exit 2\n") && shown.contains("there is no such key"), "{line}: {shown}");
    }
    write(folder.path(), "longhaul.toml", "stats.every_seconds = 5");
    assert!(run(folder.path(), &["config", "check"]).starts_with("exit 0\n"));
}

/// A flag alone could not do it: it has no way to say no.
#[test]
fn a_switch_in_the_file_is_turned_off_by_its_variable() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "longhaul.toml", "[import]\nstrict = true\n[output]\nformat = \"json\"\n");
    write(folder.path(), "list", "10.1000/x\nbad\n");
    let import = |variables: &[(&str, &str)]| {
        let output = longhaul(folder.path(), &["queue", "import", "list"], variables);
        assert_eq!(output.status.code(), Some(4));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["added"].clone()
    };
    assert_eq!(import(&[]), 0);
    assert_eq!(import(&[("LONGHAUL_STRICT", "false")]), 1);
}

#[test]
fn no_message_about_a_flag_repeats_a_secret() {
    let folder = TempDir::new().unwrap();
    for args in [
        &["queue", "run", "--header", "hunter2"][..],
        &["queue", "run", "--header", "a.example=X Y:hunter2"],
        &["queue", "stats", "--queue", "postgres://user:hunter2@host/db"],
        &["queue", "stats", "https://user:hunter2@host/a"],
        &["queue", "run", "--rate", "https://user:hunter2@host/=1/s"],
    ] {
        let said = run(folder.path(), args);
        assert!(said.starts_with("exit 2\n") && !said.contains("hunter2"), "{args:?}: {said}");
    }
    let output = longhaul(folder.path(), &["queue", "run"], &[("LONGHAUL_HEADER", "a.example hunter2")]);
    assert!(output.status.code() == Some(2) && !text(&output.stderr).contains("hunter2"));
    let help =
        longhaul(folder.path(), &["queue", "run", "--help"], &[("LONGHAUL_HEADER", "a.example=X:hunter2")]);
    assert!(!text(&help.stdout).contains("hunter2"), "the help shows variables");
}

#[test]
fn shells_get_their_completions_and_readers_their_pages() {
    let folder = TempDir::new().unwrap();
    // A broken file is no reason to have neither.
    write(folder.path(), "longhaul.toml", "nonsense");
    let print = |args: &[&str]| {
        let output = longhaul(folder.path(), args, &[("LONGHAUL_QUEUE", "mine.sqlite")]);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        let printed = text(&output.stdout);
        assert!(!printed.contains("mine.sqlite"), "{args:?} shows a variable of whoever calls it");
        printed
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(print(&["completions", shell]).contains("drain-horizon"), "{shell}");
    }
    assert!(print(&["man"]).contains("longhaul\\-queue(1)"));
    assert!(print(&["man", "queue", "run"]).contains("\\-\\-drain\\-horizon"));
    let reference = print(&["reference"]);
    assert!(reference.contains("`orchestrator.max_workers`"));
    // Its example is a file that works.
    let example = reference.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    write(folder.path(), "example.toml", example);
    let check = run(folder.path(), &["config", "check", "-c", "example.toml"]);
    assert!(check.starts_with("exit 0\n") && check.contains("example.toml: 7 values, no fault"), "{check}");
    assert_eq!(print(&["man", "--dir", "pages"]), "");
    let pages = std::fs::read_dir(folder.path().join("pages")).unwrap().count();
    assert!(pages >= 10, "{pages}");
    assert!(run(folder.path(), &["man", "queue", "fly"]).starts_with("exit 2\n"));
    let bash = print(&["completions", "bash"]);
    write(folder.path(), "longhaul.bash", &bash);
    let read = Command::new("bash").args(["-n", "longhaul.bash"]).current_dir(folder.path()).status();
    assert!(read.unwrap().success(), "bash reads them");
}

/// A limit for a resolver, a role or a host's cap has a key of its own, and each source may name others.
#[test]
fn resolvers_and_roles_have_keys_of_their_own() {
    let folder = TempDir::new().unwrap();
    write(
        folder.path(),
        "longhaul.toml",
        "[orchestrator.max_per_resolver]\nunpaywall = 2\narxiv = 1\n[rate.\"example.org\"]\nartifact = \"1/3s\"\ncap = 2\n",
    );
    let output =
        longhaul(folder.path(), &["config", "show"], &[("LONGHAUL_MAX_PER_RESOLVER", "arxiv:3,core=4")]);
    let shown = text(&output.stdout);
    let row = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{shown}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("orchestrator.max_per_resolver.unpaywall"), "2 longhaul.toml:2");
    assert_eq!(row("orchestrator.max_per_resolver.arxiv"), "3 LONGHAUL_MAX_PER_RESOLVER");
    assert_eq!(row("orchestrator.max_per_resolver.core"), "4 LONGHAUL_MAX_PER_RESOLVER");
    assert_eq!(row("rate.\"example.org\".artifact"), "1/3s longhaul.toml:5");
    assert_eq!(row("rate.\"example.org\".cap"), "2 longhaul.toml:6");
    write(
        folder.path(),
        "longhaul.toml",
        "[orchestrator]\nmax_per_resolver = 2\n[rate.\"a.example\"]\ncap = 0\n",
    );
    let check = run(folder.path(), &["config", "check"]);
    assert!(check.contains("a table with a whole number for each resolver"), "{check}");
    assert!(check.contains("is not a number of requests"), "{check}");
}

/// A queue that counts by host is no queue that counts by domain: a process that differs is refused, and told what to do.
#[test]
fn a_queue_keeps_to_how_it_counts_hosts() {
    fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["--registrable-domain"][..], args].concat()
    }
    let folder = TempDir::new().unwrap();
    let import = ["queue", "enqueue", "https://cdn.example.co.uk/1.pdf"];
    assert_eq!(longhaul(folder.path(), &with(&import), &[]).status.code(), Some(0));
    let lanes = longhaul(folder.path(), &with(&["queue", "lanes", "--format", "jsonl"]), &[]);
    let lane: Value = serde_json::from_slice(&lanes.stdout).unwrap();
    assert_eq!(lane["lane"], "example.co.uk");
    let refused = longhaul(folder.path(), &["queue", "stats"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("give --registrable-domain"), "{}", text(&refused.stderr));
    write(folder.path(), "longhaul.toml", "[queue]\nregistrable_domain = true\n");
    assert_eq!(longhaul(folder.path(), &["queue", "stats"], &[]).status.code(), Some(0));
}
