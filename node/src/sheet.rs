//! Secrets as text: the recovery kit on its sheet of paper, and the invite in a message.
//!
//! A kit is base32 in short numbered lines, each with a check of its own, so that somebody who types it in from paper is
//! told which line is wrong.

use bithealth_proto::v1;
use bithealth_proto::{DecodeError, decode, encode};
use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};
use sha2::{Digest, Sha256};

/// Characters of base32 in a line of the kit: 25 bytes.
const LINE_LEN: usize = 40;
/// Characters of base32 that check a line: 20 bits.
const CHECK_LEN: usize = 4;
const INVITE_PREFIX: &str = "bithealth-invite-";
const BEGIN: &str = "-----BEGIN BITHEALTH RECOVERY KIT-----";
const END: &str = "-----END BITHEALTH RECOVERY KIT-----";

/// Why a text is not a kit or an invite.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// No kit in this text.
    #[error("this is not a recovery kit: the line \"{BEGIN}\" is missing")]
    NoKit,
    /// The kit is cut off.
    #[error("the recovery kit is cut off after line {last}: \"{END}\" is missing")]
    CutOff {
        /// The last line that is there, from 1.
        last: usize,
    },
    /// A line does not match its check.
    #[error("line {line} of the recovery kit is damaged: it does not match its check; compare it with the sheet")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// Lines are missing or in the wrong order.
    #[error("line {want} of the recovery kit is due, line {got} came: a line is missing or out of order")]
    Order {
        /// Number of the line that came.
        got: usize,
        /// Number of the line that was due.
        want: usize,
    },
    /// The lines are sound, the whole is not.
    #[error("the recovery kit is damaged: {0}")]
    Kit(DecodeError),
    /// Not an invite.
    #[error("this is not an invite: it does not begin with \"{INVITE_PREFIX}\"")]
    NoInvite,
    /// An invite that was cut or changed on its way.
    #[error("the invite is damaged or cut off; ask for it again, whole")]
    Invite,
}

/// The kit as text for a sheet of paper.
pub fn print_kit(kit: &v1::Kit) -> String {
    let code = BASE32_NOPAD.encode(&encode(kit));
    let lines = code.as_bytes().chunks(LINE_LEN).enumerate().map(|(index, line)| {
        let line = std::str::from_utf8(line).expect("base32 is ASCII");
        let groups: Vec<&str> =
            line.as_bytes().chunks(8).map(|group| std::str::from_utf8(group).expect("ASCII")).collect();
        format!("{:02} {} {}", index + 1, groups.join("-"), check(index + 1, line))
    });
    let lines: Vec<String> = lines.collect();
    let contacts = kit.contacts.iter().map(|contact| format!("  {contact}\n")).collect::<String>();
    format!(
        "BitHealth recovery kit\n\nOrganisation: {}\nNetwork:      {}\nContacts:\n{contacts}\n\
         With this sheet an empty machine gets back everything this organisation put into the network:\n\n  \
         bithealth restore --kit FILE\n\n\
         Whoever holds it can read all records of the organisation. Keep it where you keep a master key, away from\n\
         your machines.\n\n{BEGIN}\n{}\n{END}\n",
        kit.organisation,
        kit.network,
        lines.join("\n"),
    )
}

/// Reads a kit, typed in or from a file; case, blanks and hyphens do not matter.
///
/// # Errors
/// [`SheetError`] names the line that is wrong.
pub fn read_kit(text: &str) -> Result<v1::Kit, SheetError> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != BEGIN);
    lines.next().ok_or(SheetError::NoKit)?;
    let mut code = String::new();
    let mut count = 0;
    loop {
        let Some(line) = lines.next() else { return Err(SheetError::CutOff { last: count }) };
        if line == END {
            break;
        }
        if line.is_empty() {
            continue;
        }
        count += 1;
        code.push_str(&read_line(line, count)?);
    }
    let bytes = BASE32_NOPAD.decode(code.as_bytes()).map_err(|_| SheetError::Line { line: count })?;
    decode(&bytes).map_err(SheetError::Kit)
}

fn read_line(line: &str, want: usize) -> Result<String, SheetError> {
    let damaged = SheetError::Line { line: want };
    let (number, rest) = line.split_once(' ').ok_or(SheetError::Line { line: want })?;
    let got = number.parse::<usize>().map_err(|_| SheetError::Line { line: want })?;
    let code: String = rest.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_uppercase()).collect();
    if code.len() <= CHECK_LEN {
        return Err(damaged);
    }
    let (code, found) = code.split_at(code.len() - CHECK_LEN);
    if found != check(got, code) {
        return Err(damaged);
    }
    if got != want {
        return Err(SheetError::Order { got, want });
    }
    Ok(code.to_owned())
}

fn check(number: usize, code: &str) -> String {
    let digest = Sha256::new().chain_update(number.to_be_bytes()).chain_update(code).finalize();
    BASE32_NOPAD.encode(&digest[..5])[..CHECK_LEN].to_owned()
}

/// The invite as one word, to be sent by mail or message.
pub fn print_invite(invite: &v1::InviteText) -> String {
    let mut bytes = encode(invite);
    let digest = Sha256::digest(&bytes);
    bytes.extend(&digest[..4]);
    format!("{INVITE_PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
}

/// Reads an invite.
///
/// # Errors
/// [`SheetError::NoInvite`] for any other text, [`SheetError::Invite`] if it was cut or changed.
pub fn read_invite(text: &str) -> Result<v1::InviteText, SheetError> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let code = text.strip_prefix(INVITE_PREFIX).ok_or(SheetError::NoInvite)?;
    let bytes = BASE32_NOPAD_NOCASE.decode(code.as_bytes()).map_err(|_| SheetError::Invite)?;
    let (message, digest) = bytes.split_last_chunk::<4>().ok_or(SheetError::Invite)?;
    if Sha256::digest(message)[..4] != digest[..] {
        return Err(SheetError::Invite);
    }
    decode(message).map_err(|_| SheetError::Invite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn kit() -> v1::Kit {
        v1::Kit {
            genesis: Bytes::from_static(&[3; 32]),
            network: "clinics".into(),
            organisation: "North Clinic".into(),
            organisation_secret: Bytes::from_static(&[5; 32]),
            contacts: vec!["/ip4/127.0.0.1/tcp/4401".into()],
            time_ms: 1,
            former_secrets: vec![Bytes::from_static(&[7; 32])],
        }
    }

    #[test]
    fn a_kit_typed_in_lower_case_without_hyphens_reads_back() {
        let text = print_kit(&kit());
        let (head, body) = text.split_once(BEGIN).unwrap();
        let body = body.split_once(END).unwrap().0.to_lowercase().replace('-', "");
        assert_eq!(read_kit(&format!("{head}{BEGIN}{body}\n{END}")), Ok(kit()));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = print_kit(&kit());
        let line = text.lines().find(|line| line.starts_with("03 ")).unwrap();
        let other = if line.as_bytes()[5] == b'A' { "B" } else { "A" };
        let damaged = text.replace(line, &format!("{}{other}{}", &line[..5], &line[6..]));
        assert_eq!(read_kit(&damaged), Err(SheetError::Line { line: 3 }));
    }

    #[test]
    fn swapped_and_missing_lines_are_named() {
        let text = print_kit(&kit());
        let second = text.lines().find(|line| line.starts_with("02 ")).unwrap();
        assert_eq!(read_kit(&text.replace(&format!("{second}\n"), "")), Err(SheetError::Order { got: 3, want: 2 }));
    }

    #[test]
    fn a_cut_kit_and_another_text_are_told_apart() {
        let text = print_kit(&kit());
        let cut = &text[..text.find("03 ").unwrap()];
        assert_eq!(read_kit(cut), Err(SheetError::CutOff { last: 2 }));
        assert_eq!(read_kit("a letter"), Err(SheetError::NoKit));
    }

    #[test]
    fn an_invite_reads_back_and_a_cut_one_is_refused() {
        let invite = v1::InviteText { secret: Bytes::from_static(&[1; 32]), ..Default::default() };
        let text = print_invite(&invite);
        assert_eq!(read_invite(&format!(" {text}\n")), Ok(invite));
        assert_eq!(read_invite(&text[..text.len() - 3]), Err(SheetError::Invite));
        assert_eq!(read_invite("hello"), Err(SheetError::NoInvite));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,200}") {
            let _ = read_kit(&format!("{BEGIN}\n{text}\n{END}"));
            let _ = read_invite(&format!("{INVITE_PREFIX}{text}"));
        }
    }
}
