//! Names of users, which are names of buckets as well.

use super::refusal::Refusal;

/// The longest user name, in bytes.
pub(crate) const USER_NAME_BYTES_MAX: usize = 63;
/// The shortest password, in characters.
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
/// The longest password, in bytes: hashing costs time in proportion.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;

/// Whether `name` can be a user's.
///
/// # Errors
/// `Invalid`, with the rule.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let begins_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if begins_well && name.len() <= USER_NAME_BYTES_MAX && name.bytes().all(inner) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "E_USER_NAME",
        format!(
            "{name:?} cannot be a user name: 1 to {USER_NAME_BYTES_MAX} lower-case letters, digits, '-', '_' or '.', \
             beginning with a letter or digit"
        ),
    ))
}

/// Whether `password` may be set.
///
/// # Errors
/// `Invalid`: too short or too long.
pub(crate) fn check_password(password: &str) -> Result<(), Refusal> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Refusal::invalid(
            "E_PASSWORD",
            format!("the password is too short: at least {PASSWORD_CHARS_MIN} characters"),
        ));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Refusal::invalid(
            "E_PASSWORD",
            format!("the password is too long: at most {PASSWORD_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_paths_and_buckets() {
        for good in ["a", "ada", "0x", "ada.lovelace", "a-b_c", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "Ada",
            "a b",
            "a/b",
            "\u{e4}da",
            "a\0",
            &"x".repeat(64),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_have_a_length() {
        assert!(check_password("1234567").is_err());
        assert!(check_password("12345678").is_ok());
        assert!(check_password(&"x".repeat(1025)).is_err());
    }
}
