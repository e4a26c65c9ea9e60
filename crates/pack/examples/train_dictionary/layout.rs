//! The layouts in which systems write JSON.

/// How a document is laid out.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// No white space.
    Compact,
    /// Every value on a line of its own, four spaces a level.
    Lines,
    /// As HAPI FHIR prints: two spaces a level, and `[ {` and `}, {` on one line.
    Joined,
}

impl Layout {
    /// Those that the samples are written in.
    pub(crate) const ALL: [Self; 3] = [Self::Compact, Self::Lines, Self::Joined];

    /// Lays out a compact document.
    pub(crate) fn print(self, compact: &str) -> String {
        match self {
            Self::Compact => compact.to_owned(),
            Self::Lines => Printer::new(compact, 4, false).print(),
            Self::Joined => Printer::new(compact, 2, true).print(),
        }
    }
}

struct Printer<'a> {
    compact: &'a str,
    indent: usize,
    depth: usize,
    joined: bool,
    out: String,
}

impl<'a> Printer<'a> {
    fn new(compact: &'a str, indent: usize, joined: bool) -> Self {
        Self { compact, indent, depth: 0, joined, out: String::with_capacity(2 * compact.len()) }
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', self.indent * self.depth));
    }

    fn print(mut self) -> String {
        let (mut in_string, mut escaped) = (false, false);
        // Joined arrays add no level of their own.
        let mut arrays = Vec::new();
        for c in self.compact.chars() {
            if in_string {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                self.out.push(c);
                continue;
            }
            match c {
                '{' => {
                    arrays.push(false);
                    self.depth += 1;
                    self.out.push(c);
                    self.line();
                }
                '[' => {
                    arrays.push(true);
                    self.out.push(c);
                    if self.joined {
                        self.out.push(' ');
                    } else {
                        self.depth += 1;
                        self.line();
                    }
                }
                '}' | ']' => {
                    let joined = arrays.pop().unwrap_or_default() && self.joined;
                    if joined {
                        self.out.push(' ');
                    } else {
                        self.depth -= 1;
                        self.line();
                    }
                    self.out.push(c);
                }
                ',' => {
                    self.out.push(c);
                    if self.joined && arrays.last() == Some(&true) {
                        self.out.push(' ');
                    } else {
                        self.line();
                    }
                }
                ':' => self.out.push_str(": "),
                '"' => {
                    in_string = true;
                    self.out.push(c);
                }
                _ => self.out.push(c),
            }
        }
        self.out
    }
}
