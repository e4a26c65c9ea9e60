//! The physical limit of the disk: the files are copied, with no network and nothing verified.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Source, Tool, content, version_of};
use crate::corpus::Corpus;

/// `cp`.
pub(crate) struct Copy;

struct Original(PathBuf);

impl Tool for Copy {
    fn name(&self) -> &'static str {
        "cp, no network"
    }

    fn version(&self) -> Option<String> {
        version_of(Path::new("cp"))
    }

    fn serve(&self, corpus: &Corpus, _: &Path) -> Result<Box<dyn Source>> {
        Ok(Box::new(Original(content(corpus)?)))
    }
}

impl Source for Original {
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new("cp");
        command.args(["--reflink=never", "--recursive"]).arg(&self.0).arg(into);
        Ok(command)
    }
}
