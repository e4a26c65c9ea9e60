//! Names of records as names of files: nothing a record is called leads out of the folder.

use std::collections::HashMap;

/// Most bytes of a part of a file's name: what Linux takes, less the room for a suffix and the mark of a half file.
const PART_LEN_MAX: usize = 200;

/// A relative path of safe parts, separated by slashes; `None` if nothing is left.
///
/// A record's name is chosen by whoever put it. `..` becomes `_`, an absolute path loses its slash, bytes no file system takes
/// become `_`, and long parts are cut.
pub(crate) fn safe_name(name: &str) -> Option<String> {
    let parts = name.split('/').filter(|part| !matches!(*part, "" | ".")).map(safe_part);
    let safe = parts.collect::<Vec<_>>().join("/");
    (!safe.is_empty()).then_some(safe)
}

fn safe_part(part: &str) -> String {
    if part == ".." {
        return "_".to_owned();
    }
    let part: String = part.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    let (stem, extension) = split(&part);
    let room = PART_LEN_MAX.saturating_sub(extension.len());
    if extension.len() > PART_LEN_MAX / 2 {
        cut(&part, PART_LEN_MAX).to_owned()
    } else {
        cut(stem, room).to_owned() + extension
    }
}

/// The longest start of at most `len` bytes that does not cut a character.
fn cut(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

/// `a.json` into `a` and `.json`; a name that only begins with a dot has no extension.
fn split(part: &str) -> (&str, &str) {
    match part.rfind('.') {
        Some(dot) if dot > 0 => part.split_at(dot),
        _ => (part, ""),
    }
}

/// Gives every record of a run its own path.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// What is at a path of this run, and how many names were derived from it.
    taken: HashMap<String, (Kind, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

impl Names {
    /// A path for a record of this name: its own, or with ` (2)`, ` (3)` ... where another record of this run has it.
    pub(crate) fn give(&mut self, name: &str) -> String {
        let safe = safe_name(name).unwrap_or_else(|| "unnamed".to_owned());
        let mut path = String::with_capacity(safe.len());
        let mut parts = safe.split('/').peekable();
        while let Some(part) = parts.next() {
            let kind = if parts.peek().is_some() { Kind::Folder } else { Kind::File };
            let start = if path.is_empty() { String::new() } else { format!("{path}/") };
            path = self.take(&start, part, kind);
        }
        path
    }

    fn take(&mut self, start: &str, part: &str, kind: Kind) -> String {
        let plain = format!("{start}{part}");
        let mut path = plain.clone();
        loop {
            match self.taken.get(&path).map(|(kind, _)| *kind) {
                None => break,
                Some(Kind::Folder) if kind == Kind::Folder => return path,
                Some(_) => {
                    let (_, derived) =
                        self.taken.get_mut(&plain).expect("the plain path was the first one found taken");
                    *derived += 1;
                    let (stem, extension) = split(part);
                    path = format!("{start}{stem} ({}){extension}", *derived + 1);
                }
            }
        }
        self.taken.insert(path.clone(), (kind, 0));
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay() {
        for name in ["a.json", "patients/Müller/1.json", ".hidden", "a b (2).pdf", "x..y"] {
            assert_eq!(safe_name(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        assert_eq!(safe_name("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(safe_name("../../etc/passwd").as_deref(), Some("_/_/etc/passwd"));
        assert_eq!(safe_name("a//./b/").as_deref(), Some("a/b"));
        assert_eq!(safe_name("a\0b\nc").as_deref(), Some("a_b_c"));
        assert_eq!(safe_name("/./"), None);
        assert_eq!(safe_name(""), None);
    }

    #[test]
    fn a_long_part_is_cut_and_keeps_its_extension() {
        let name = safe_name(&format!("{}.json", "ü".repeat(300))).unwrap();
        assert!(name.len() <= PART_LEN_MAX && name.ends_with("ü.json"), "{name}");
        let name = safe_name(&format!("a.{}", "x".repeat(300))).unwrap();
        assert_eq!(name.len(), PART_LEN_MAX);
    }

    #[test]
    fn records_of_one_name_get_numbers() {
        let mut names = Names::default();
        let given: Vec<_> = (0..3).map(|_| names.give("d/a.json")).collect();
        assert_eq!(given, ["d/a.json", "d/a (2).json", "d/a (3).json"]);
        assert_eq!(names.give("d/a (2).json"), "d/a (2) (2).json");
        assert_eq!(names.give(""), "unnamed");
    }

    #[test]
    fn a_file_and_a_folder_of_one_name_stand_side_by_side() {
        let mut names = Names::default();
        assert_eq!(names.give("a"), "a");
        assert_eq!(names.give("a/b"), "a (2)/b");
        assert_eq!(names.give("a/c"), "a (3)/c");
        assert_eq!(names.give("d/e"), "d/e");
        assert_eq!(names.give("d"), "d (2)");
    }

    proptest! {
        #[test]
        fn no_name_escapes_and_no_two_records_share_a_path(list in prop::collection::vec("[ab./\u{0}]{0,6}", 1..30)) {
            let mut names = Names::default();
            let mut seen = std::collections::HashSet::new();
            for name in list {
                let path = names.give(&name);
                prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0')), "{path}");
                prop_assert!(seen.insert(path));
            }
        }
    }
}
