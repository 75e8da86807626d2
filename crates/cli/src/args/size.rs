//! Sizes as people write them: `500KB`, `10MiB`, `2GB`.

pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = |why: String| format!("{why}; write a size like 500KB, 10MiB or 2GB");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong(format!("{text:?} does not start with a number")))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "" => return Err(wrong(format!("{text:?} has no unit"))),
        unit => return Err(wrong(format!("{unit:?} is not a unit"))),
    };
    let bytes = number * factor as f64;
    if bytes < 1.0 {
        return Err(wrong(format!("{text:?} is less than a byte")));
    }
    // Exact up to 2^53 bytes; no disk of one run holds more.
    if bytes > 9e15 {
        return Err(wrong(format!("{text:?} is more than 9,000 TB")));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let check = |text: &str, bytes: u64| assert_eq!(parse(text), Ok(bytes), "{text}");
        check("10MiB", 10 << 20);
        check("2GB", 2_000_000_000);
        check("1.5 kb", 1_500);
        check("100b", 100);
        check("1TiB", 1 << 40);
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_one_is() {
        for bad in ["", "5", "0MB", "-1MB", "1XB", "99999999TB", "1..2MB", "MB"] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains("write a size like"), "{bad}: {message}");
        }
    }
}
