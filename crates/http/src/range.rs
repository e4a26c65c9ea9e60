//! A part of a record, as HTTP asks for it (RFC 9110, section 14).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// One byte range. Positions count from 0 and the last one is included, as in the `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-last`.
    Span {
        /// First wanted byte.
        first: u64,
        /// Last wanted byte.
        last: u64,
    },
    /// `first-`: up to the end.
    From {
        /// First wanted byte.
        first: u64,
    },
    /// `-len`: the end.
    Last {
        /// How many bytes.
        len: u64,
    },
}

/// Why a text is not a byte range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRangeError {
    /// Not of the form `A-B`, `A-` or `-N`.
    #[error("{got:?} is not a range: A-B, A- or -N is due (bytes from 0, the last one included)")]
    Form {
        /// What came.
        got: String,
    },
    /// Ends before it starts.
    #[error("the range {first}-{last} ends before it starts")]
    Backwards {
        /// First wanted byte.
        first: u64,
        /// Last wanted byte.
        last: u64,
    },
}

impl ByteRange {
    /// The bytes meant, of a record of `len`; the end is not included. `None` if there are none: status 416.
    pub fn resolve(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Span { first, last } => first..last.saturating_add(1).min(len),
            Self::From { first } => first..len,
            Self::Last { len: wanted } => len.saturating_sub(wanted)..len,
        };
        (range.start < range.end).then_some(range)
    }

    /// Reads a `Range` header. `None` for what a server ignores: other units, several ranges, nonsense (RFC 9110, 14.2).
    pub fn from_header(value: &str) -> Option<Self> {
        let (unit, range) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        range.trim().parse().ok()
    }
}

impl FromStr for ByteRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let form = || ParseRangeError::Form { got: text.to_owned() };
        let position = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse::<u64>().map_err(|_| form()),
            false => Err(form()),
        };
        let (first, last) = text.split_once('-').ok_or_else(form)?;
        match (first, last) {
            ("", len) => Ok(Self::Last { len: position(len)? }),
            (first, "") => Ok(Self::From { first: position(first)? }),
            (first, last) => match (position(first)?, position(last)?) {
                (first, last) if last < first => Err(ParseRangeError::Backwards { first, last }),
                (first, last) => Ok(Self::Span { first, last }),
            },
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span { first, last } => write!(f, "{first}-{last}"),
            Self::From { first } => write!(f, "{first}-"),
            Self::Last { len } => write!(f, "-{len}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read_and_written() {
        for (text, range) in [
            ("0-0", ByteRange::Span { first: 0, last: 0 }),
            ("5-", ByteRange::From { first: 5 }),
            ("-7", ByteRange::Last { len: 7 }),
        ] {
            assert_eq!(text.parse(), Ok(range));
            assert_eq!(range.to_string(), text);
            assert_eq!(ByteRange::from_header(&format!("bytes={text}")), Some(range));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "-", "5", "a-b", "1-2-3", "+1-2", "1-2,4-5", " 1-2", "18446744073709551616-"] {
            let want = Err(ParseRangeError::Form { got: text.to_owned() });
            assert_eq!(text.parse::<ByteRange>(), want, "{text:?}");
        }
        assert_eq!("9-8".parse::<ByteRange>(), Err(ParseRangeError::Backwards { first: 9, last: 8 }));
    }

    #[test]
    fn a_header_that_http_ignores_is_no_range() {
        for value in ["items=0-1", "bytes=0-1,5-6", "bytes", "bytes=9-8"] {
            assert_eq!(ByteRange::from_header(value), None, "{value}");
        }
    }

    #[test]
    fn a_range_is_cut_to_the_record() {
        assert_eq!(ByteRange::Span { first: 2, last: 3 }.resolve(10), Some(2..4));
        assert_eq!(ByteRange::Span { first: 2, last: u64::MAX }.resolve(10), Some(2..10));
        assert_eq!(ByteRange::From { first: 9 }.resolve(10), Some(9..10));
        assert_eq!(ByteRange::Last { len: 99 }.resolve(10), Some(0..10));
    }

    #[test]
    fn a_range_past_the_end_is_none() {
        assert_eq!(ByteRange::From { first: 10 }.resolve(10), None);
        assert_eq!(ByteRange::Span { first: 10, last: 12 }.resolve(10), None);
        assert_eq!(ByteRange::Last { len: 0 }.resolve(10), None);
        assert_eq!(ByteRange::From { first: 0 }.resolve(0), None);
    }
}
