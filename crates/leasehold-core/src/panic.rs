//! What a panic says.

use std::any::Any;

/// What a caught panic says, as the reason of a failure.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with a value that is not text"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_is_told_with_its_text_if_it_has_one() {
        let of = |panic: fn()| super::text(std::panic::catch_unwind(panic).unwrap_err().as_ref());
        assert_eq!(of(|| panic!("plain")), "panicked: plain");
        assert_eq!(of(|| panic!("{}", 7)), "panicked: 7");
        assert_eq!(of(|| std::panic::panic_any(7)), "panicked: with a value that is not text");
    }
}
