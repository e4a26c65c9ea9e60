//! The parameters of a request, as pairs in its query, and back.

use std::fmt::Write as _;
use std::str::FromStr;

/// What travels in a query.
pub trait Query: Sized {
    /// As pairs; a list is a key that occurs several times, a default is left out.
    fn pairs(&self) -> Vec<(&'static str, String)>;

    /// From the pairs of a request.
    ///
    /// # Errors
    /// [`QueryError`] for an unknown key or a value that cannot be read: a misspelt `keep_in` must not be a put anywhere.
    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError>;

    /// The query with its question mark, or nothing.
    fn to_query(&self) -> String {
        let mut query = String::new();
        for (key, value) in self.pairs() {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(key);
            query.push('=');
            query.push_str(&percent_encode(&value));
        }
        query
    }
}

/// Why a query is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Nothing of this name is known.
    #[error("unknown parameter {key:?}, known are: {known}")]
    UnknownKey {
        /// What came.
        key: String,
        /// What is known.
        known: &'static str,
    },
    /// The value is not of its type.
    #[error("parameter {key}={value:?} cannot be read, {want} is due")]
    Value {
        /// Whose value.
        key: String,
        /// What came.
        value: String,
        /// What was due.
        want: &'static str,
    },
}

/// Reads one value.
pub(crate) fn value<T: FromStr>((key, value): &(String, String), want: &'static str) -> Result<T, QueryError> {
    value.parse().map_err(|_| QueryError::Value { key: key.clone(), value: value.clone(), want })
}

/// Every byte but the unreserved characters of RFC 3986, section 2.3, as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a String takes every write"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(percent_encode("Az0-._~"), "Az0-._~");
        assert_eq!(percent_encode("a b&c=ü/%"), "a%20b%26c%3D%C3%BC%2F%25");
    }
}
