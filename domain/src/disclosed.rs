//! Personal data on its way to a reader. Rows and answers hold it as [`Disclosed`], which is written in the clear only where
//! somebody said so: whoever forgets to, hides it.

use std::{cell::Cell, fmt};

use serde::{Serialize, Serializer};

use crate::personal::{Personal, SEALED_MARKER};

/// A personal value in a row or an answer, or none.
///
/// `Debug` prints no value, and serde writes [`SEALED_MARKER`] instead of it, except inside [`disclosing`]. That there is
/// none, or none any more, is no secret: it is null either way.
#[derive(Clone, PartialEq, Eq)]
pub struct Disclosed<T>(Option<T>);

impl<T> Disclosed<T> {
    /// No value.
    pub const ABSENT: Self = Self(None);

    /// The value, where there is one. Callers answer for where it goes.
    pub fn expose(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The value itself, where there is one. Callers answer for where it goes.
    pub fn into_exposed(self) -> Option<T> {
        self.0
    }

    /// Whether there is no value.
    pub fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl Disclosed<String> {
    /// The marker in the place of the value, for somebody who may not see this one, whoever else is answered.
    #[must_use]
    pub fn withheld(self) -> Self {
        Self(self.0.map(|_| SEALED_MARKER.to_owned()))
    }
}

impl<T> Default for Disclosed<T> {
    fn default() -> Self {
        Self::ABSENT
    }
}

impl<T> From<T> for Disclosed<T> {
    fn from(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> From<Option<T>> for Disclosed<T> {
    fn from(value: Option<T>) -> Self {
        Self(value)
    }
}

impl<T: ToString> From<&Personal<T>> for Disclosed<String> {
    fn from(value: &Personal<T>) -> Self {
        Self(value.expose().map(ToString::to_string))
    }
}

impl<T: ToString> From<&Option<Personal<T>>> for Disclosed<String> {
    fn from(value: &Option<Personal<T>>) -> Self {
        value.as_ref().map_or(Self::ABSENT, Self::from)
    }
}

impl<T> fmt::Debug for Disclosed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_absent() { "None" } else { SEALED_MARKER })
    }
}

thread_local! {
    static DISCLOSE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with [`Disclosed`] values serialised in the clear, on this thread only. For an answer to somebody who may read
/// them.
pub fn disclosing<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            DISCLOSE.set(self.0);
        }
    }
    let _restore = Restore(DISCLOSE.replace(true));
    f()
}

impl<T: Serialize> Serialize for Disclosed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_none(),
            Some(value) if DISCLOSE.get() => value.serialize(serializer),
            Some(_) => serializer.serialize_str(SEALED_MARKER),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;
    use crate::Name;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn a_value_shows_only_where_it_is_disclosed() {
        let name = Disclosed::from("Ada Canary".to_owned());
        assert_eq!((format!("{name:?}"), json(&name)), ("[personal]".into(), r#""[personal]""#.into()));
        assert_eq!(disclosing(|| json(&name)), r#""Ada Canary""#);
        assert_eq!(json(&name), r#""[personal]""#);
        assert_eq!(name.expose().map(String::as_str), Some("Ada Canary"));
    }

    #[test]
    fn what_is_withheld_shows_nowhere() {
        let name = Disclosed::from("Ada Canary".to_owned()).withheld();
        assert_eq!(disclosing(|| json(&name)), r#""[personal]""#);
        assert!(Disclosed::<String>::ABSENT.withheld().is_absent());
    }

    #[test]
    fn the_scope_ends_however_it_is_left_and_is_of_one_thread() {
        let name = Disclosed::from("Ada Canary".to_owned());
        let unwound = panic::catch_unwind(|| disclosing(|| panic::resume_unwind(Box::new(()))));
        assert!(unwound.is_err());
        assert_eq!(json(&name), r#""[personal]""#);
        let elsewhere = || std::thread::scope(|scope| scope.spawn(|| json(&name)).join().unwrap());
        assert_eq!(disclosing(elsewhere), r#""[personal]""#);
        disclosing(|| {
            disclosing(|| ());
            assert!(json(&name).contains("Ada"));
        });
    }

    #[test]
    fn what_is_absent_or_erased_is_null_to_everybody() {
        let none = Disclosed::<String>::from(None);
        let erased = Disclosed::<String>::from(&Personal::<Name>::Erased);
        for absent in [none, erased, Disclosed::from(&None::<Personal<Name>>)] {
            assert_eq!((json(&absent), disclosing(|| json(&absent))), ("null".into(), "null".into()));
            assert!(absent.is_absent());
        }
    }

    #[test]
    fn a_value_of_any_type_is_hidden_whole() {
        let list = Disclosed::from(serde_json::json!(["Ada", {"of": "Canary"}]));
        assert_eq!(json(&list), r#""[personal]""#);
        let name = Disclosed::<String>::from(&Personal::new(Name::new("Ada", "").unwrap()));
        assert_eq!(disclosing(|| json(&name)), r#""Ada""#);
    }
}
