//! Sizes, times, addresses and codes as people write them.

use std::net::SocketAddr;
use std::time::Duration;

use bithealth_types::ByteLen;

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("a size is due, as 500GB or 2TiB")]
    Len,
    #[error("a time is due, as 90s, 30m, 12h or 7d")]
    Duration,
    #[error("a country is due, as DE or US-CA (ISO 3166)")]
    Jurisdiction,
    #[error("an address is due, as 0.0.0.0:4001, [::]:4001 or /ip4/0.0.0.0/tcp/4001")]
    Listen,
}

/// Splits `12h` into 12 and `h`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

pub(super) fn parse_len(text: &str) -> Result<ByteLen, ParseError> {
    let (number, unit) = number_and_unit(text.trim()).ok_or(ParseError::Len)?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(ParseError::Len),
    };
    number.checked_mul(unit).map(ByteLen).ok_or(ParseError::Len)
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let (number, unit) = number_and_unit(text.trim()).ok_or(ParseError::Duration)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(ParseError::Duration),
    };
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds <= u64::from(u32::MAX)); // 136 years
    seconds.map(Duration::from_secs).ok_or(ParseError::Duration)
}

pub(super) fn parse_jurisdiction(text: &str) -> Result<String, ParseError> {
    let (country, part) = match text.split_once('-') {
        Some((country, part)) => (country, Some(part)),
        None => (text, None),
    };
    let country = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_alphabetic());
    let part =
        part.is_none_or(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if country && part { Ok(text.to_ascii_uppercase()) } else { Err(ParseError::Jurisdiction) }
}

/// A socket address becomes the multiaddress of its TCP port; a multiaddress stays.
pub(super) fn parse_listen(text: &str) -> Result<String, ParseError> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let address: SocketAddr = text.parse().map_err(|_| ParseError::Listen)?;
    let kind = if address.is_ipv4() { "ip4" } else { "ip6" };
    Ok(format!("/{kind}/{}/tcp/{}", address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary_as_written() {
        assert_eq!(parse_len("500GB"), Ok(ByteLen(500_000_000_000)));
        assert_eq!(parse_len("2 TiB"), Ok(ByteLen(2 << 40)));
        assert_eq!(parse_len("17"), Ok(ByteLen(17)));
        for text in ["", "GB", "1.5GB", "-1", "5 parsecs", "99999999TiB"] {
            assert_eq!(parse_len(text), Err(ParseError::Len), "{text:?}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "7", "d", "-1h", "1w", "99999999999d"] {
            assert_eq!(parse_duration(text), Err(ParseError::Duration), "{text:?}");
        }
    }

    #[test]
    fn jurisdictions_are_countries_or_their_parts() {
        assert_eq!(parse_jurisdiction("de").as_deref(), Ok("DE"));
        assert_eq!(parse_jurisdiction("US-CA").as_deref(), Ok("US-CA"));
        for text in ["", "D", "DEU", "DE-", "DE-BAYERN", "1A"] {
            assert_eq!(parse_jurisdiction(text), Err(ParseError::Jurisdiction), "{text:?}");
        }
    }

    #[test]
    fn addresses_become_multiaddresses() {
        assert_eq!(parse_listen("0.0.0.0:4001").as_deref(), Ok("/ip4/0.0.0.0/tcp/4001"));
        assert_eq!(parse_listen("[::1]:0").as_deref(), Ok("/ip6/::1/tcp/0"));
        assert_eq!(parse_listen("/dns4/clinic.example/tcp/1").as_deref(), Ok("/dns4/clinic.example/tcp/1"));
        assert_eq!(parse_listen("clinic.example:4001"), Err(ParseError::Listen));
    }
}
