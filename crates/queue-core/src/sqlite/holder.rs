//! Who holds a lock. Asked only when somebody has waited for long; where the system does not say, nobody is named.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    name: Option<String>,
    is_stopped: bool,
}

impl Holder {
    /// The process that holds a lock on this file, on Linux.
    pub(super) fn of(file: &File) -> Option<Self> {
        let about = file.metadata().ok()?;
        let pid = holder(&std::fs::read_to_string("/proc/locks").ok()?, about.dev(), about.ino())?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `PID (NAME) STATE …`, and a name may hold parentheses.
        let (name, state) = stat
            .split_once(" (")
            .and_then(|(_, rest)| rest.rsplit_once(") "))
            .map_or((None, ""), |(name, rest)| (Some(name.to_owned()), rest));
        Some(Self { pid, name, is_stopped: state.starts_with(['T', 't']) })
    }
}

/// What has happened and what to do, for people.
pub(super) fn advice(holder: Option<&Holder>, path: &Path) -> String {
    let Some(Holder { pid, name, is_stopped }) = holder else {
        return format!("look for a process that is stopped or hangs with `fuser -v {}`", path.display());
    };
    let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    if *is_stopped {
        format!(
            "process {pid}{name} holds it and is stopped: continue it with `kill -CONT {pid}`, or end it with `kill -KILL {pid}`"
        )
    } else {
        format!(
            "process {pid}{name} holds it: it writes for long or hangs; if it hangs, end it with `kill {pid}`"
        )
    }
}

/// The pid in a table of locks (`1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`) whose lock is on a file. Some file
/// systems give their files another device there, so the device only decides between files of one number.
fn holder(table: &str, dev: u64, ino: u64) -> Option<u32> {
    let of_device = format!("{:02x}:{:02x}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let held = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // Whoever waits has an arrow here.
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok().filter(|pid| *pid > 0)?;
        let (device, number) = words.next()?.rsplit_once(':')?;
        (number.parse() == Ok(ino)).then_some((device == of_device, pid))
    });
    held.max_by_key(|(is_device, _)| *is_device).map(|(_, pid)| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1: POSIX  ADVISORY  WRITE 11 08:01:131 128 128
2: FLOCK  ADVISORY  WRITE 22 00:2a:131 0 EOF
3: FLOCK  ADVISORY  WRITE 33 08:01:131 0 EOF
3: -> FLOCK  ADVISORY  WRITE 44 08:01:131 0 EOF
4: FLOCK  ADVISORY  WRITE -1 08:01:99 0 EOF
5: FLOCK  ADVISORY  WRITE 55 00:2b:77 0 EOF
torn";

    #[test]
    fn the_holder_is_found_by_the_number_of_the_file() {
        let dev = rustix::fs::makedev(8, 1);
        assert_eq!(holder(TABLE, dev, 131), Some(33));
        assert_eq!(
            holder(TABLE, dev, 77),
            Some(55),
            "the only one of that number, on a device of another name"
        );
        assert_eq!(holder(TABLE, dev, 99), None, "a process of another namespace has no number here");
        assert_eq!(holder(TABLE, dev, 5), None);
    }

    #[test]
    fn people_are_told_what_to_do() {
        let path = Path::new("q.locks/writer");
        let holder = |is_stopped| Holder { pid: 7, name: Some("longhaul".to_owned()), is_stopped };
        assert!(advice(Some(&holder(true)), path).contains("is stopped: continue it with `kill -CONT 7`"));
        assert!(advice(Some(&holder(false)), path).contains("if it hangs, end it with `kill 7`"));
        assert!(advice(None, path).contains("fuser -v q.locks/writer"));
    }
}
