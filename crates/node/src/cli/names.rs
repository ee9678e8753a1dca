//! Names on the command line are those of the JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads one of the names of a kind, as in `buy`.
pub fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// The name of a value, as in `buy`.
pub fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use wire::json::{Side, TimeInForce};

    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        assert_eq!(named::<Side>("buy"), Ok(Side::Buy));
        assert_eq!(name_of(&TimeInForce::Ioc), "ioc");
        let error = named::<Side>("long").unwrap_err();
        assert!(error.contains("`buy` or `sell`"), "{error}");
    }
}
