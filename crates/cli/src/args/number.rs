//! Whole numbers, refused in words.

use std::ops::RangeInclusive;

/// A parser of whole numbers in a range. An upper bound of `u64::MAX` is none.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let (least, most) = (*range.start(), *range.end());
        let wanted = match most {
            u64::MAX => format!("write a whole number, {least} or more"),
            _ => format!("write a whole number from {least} to {most}"),
        };
        let Ok(number) = text.trim().parse::<i128>() else {
            let what = if text.trim().is_empty() {
                "nothing stands there".to_owned()
            } else {
                format!("{text:?} is not a whole number")
            };
            return Err(format!("{what}; {wanted}"));
        };
        let within = u64::try_from(number).ok().filter(|number| range.contains(number));
        within
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{number} is out of range; {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_in_range_is_refused_with_what_one_is() {
        let check = |text: &str, said: &str| assert_eq!(whole::<u16>(1..=256)(text).unwrap_err(), said);
        assert_eq!(whole::<u16>(1..=256)(" 8 "), Ok(8));
        check("abc", "\"abc\" is not a whole number; write a whole number from 1 to 256");
        check("1.5", "\"1.5\" is not a whole number; write a whole number from 1 to 256");
        check("", "nothing stands there; write a whole number from 1 to 256");
        check("0", "0 is out of range; write a whole number from 1 to 256");
        check("-5", "-5 is out of range; write a whole number from 1 to 256");
        let open = whole::<u64>(1..=u64::MAX)("0").unwrap_err();
        assert_eq!(open, "0 is out of range; write a whole number, 1 or more");
        assert!(whole::<u64>(0..=u64::MAX)("99999999999999999999999").unwrap_err().contains("out of range"));
    }

    /// The standard library's words for a wrong number name neither it nor what is wanted.
    #[test]
    fn no_flag_says_what_only_a_programmer_understands() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let Err(said) = crate::config::takes(arg, "x?") else { continue };
                let raw = ["invalid digit", "cannot parse integer", "number too"];
                assert!(
                    !raw.iter().any(|raw| said.contains(raw)),
                    "{} --{}: {said}",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&crate::args::command());
    }
}
