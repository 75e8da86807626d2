//! Names for files that every file system takes.

use super::Record;

/// The longest part that is made of a title, in bytes.
const SLUG_BYTES: usize = 80;

/// The length of `-` and a hash in hexadecimal.
const TAIL_BYTES: usize = 13;

pub(super) fn stem(record: &Record) -> String {
    let most = Record::MAX_STEM_BYTES;
    if let Some(base) = &record.base_stem {
        return unreserved(fitted(base, most, &record.artifact_id, may_stand_in_base), record);
    }
    let year = record.year.map_or_else(|| "noyear".to_owned(), |year| format!("{year:04}"));
    let slug = slug(record.title.as_deref().unwrap_or_default());
    let start = format!("{year}__{slug}__");
    let id = record.work_id.as_deref().unwrap_or(&record.artifact_id);
    let id = fitted(id, most - start.len(), &record.artifact_id, may_stand_in_id);
    start + &id
}

/// The words of a title, in lower case, with `-` between them.
fn slug(title: &str) -> String {
    let mut slug = String::new();
    for letter in title.chars().flat_map(char::to_lowercase) {
        let letter = if letter.is_alphanumeric() { letter } else { '-' };
        if letter == '-' && (slug.is_empty() || slug.ends_with('-')) {
            continue;
        }
        if slug.len() + letter.len_utf8() > SLUG_BYTES {
            break;
        }
        slug.push(letter);
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "untitled".to_owned() } else { slug.to_owned() }
}

fn may_stand_in_id(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.".contains(letter)
}

/// What a producer chose as a name is kept as far as it can be.
fn may_stand_in_base(letter: char) -> bool {
    letter.is_alphanumeric() || "-_. ()[],+=&'!@~".contains(letter)
}

/// The text with `_` for each letter that may not stand there, in at most `most` bytes, neither beginning with a dot
/// nor ending with a dot or a space. If anything of it had to go, it ends with a hash of the key.
fn fitted(text: &str, most: usize, key: &str, may_stand: fn(char) -> bool) -> String {
    let replaced: String = text.chars().map(|c| if may_stand(c) { c } else { '_' }).collect();
    let mut name = replaced.trim_end_matches(['.', ' ']).trim_start().to_owned();
    if name.starts_with('.') {
        // A leading dot hides a file, and `..` is a folder.
        name.replace_range(..1, "_");
    }
    if name == text && name.len() <= most {
        return name;
    }
    if name.is_empty() {
        name.push('_');
    }
    let mut length = name.len().min(most.saturating_sub(TAIL_BYTES));
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    name.truncate(length);
    format!("{name}-{}", short_hash(key))
}

/// A name that no system gives a meaning of its own: Windows' devices, with or without an extension, and the
/// manifest, which lies beside the files.
fn unreserved(name: String, record: &Record) -> String {
    const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    let first = name.split('.').next().unwrap_or(&name).trim_end().to_lowercase();
    let numbered = |prefix: &str| {
        let number = first.strip_prefix(prefix).and_then(|rest| {
            let mut letters = rest.chars();
            letters.next().filter(|_| letters.next().is_none())
        });
        number.is_some_and(|c| "0123456789¹²³".contains(c))
    };
    let reserved = DEVICES.contains(&first.as_str()) || numbered("com") || numbered("lpt");
    if reserved || first == "manifest" {
        return format!(
            "_{}-{}",
            first.chars().take(20).collect::<String>(),
            short_hash(&record.artifact_id)
        );
    }
    name
}

/// 48 bits of FNV-1a of the key: enough to keep names apart, and the queue sees to the rest (its paths are unique).
pub(super) fn short_hash(key: &str) -> String {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:012x}", hash & 0xffff_ffff_ffff)
}
