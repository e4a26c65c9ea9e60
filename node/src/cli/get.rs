//! `get`: one record, or many into a folder.

mod many;
mod names;
pub(crate) mod target;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use bithealth_http::api::{ExportFilter, RecordInfo};
use bithealth_http::{ByteRange, ErrorCode};
use bithealth_types::{ByteLen, RecordId};
use futures::TryStreamExt;

use super::args::GetArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::progress;
use super::show::{Show, len};
use crate::client::{Client, ClientError, GetAnswer, GetIntoAnswer};

pub(crate) use many::get_many;
use names::safe_name;
use target::Target;

/// How the standard output is called.
const STDOUT_IS: &str = "-";

/// Runs `get`.
pub(crate) async fn run(client: &Client, args: GetArgs, show: Show) -> Result<Exit, Failure> {
    match (args.record, args.output) {
        (Some(record), output) => get_one(client, record, args.range, output, show).await,
        (None, Some(folder)) => {
            if folder == Path::new(STDOUT_IS) {
                return Err(Failure::usage("many records cannot go to the standard output").next("pass -o FOLDER"));
            }
            let filter = ExportFilter { patient: args.patient, category: None, own: args.own };
            get_many(client, &filter, &folder, show).await
        }
        (None, None) => Err(Failure::usage("many records need a folder").next("pass -o FOLDER")),
    }
}

async fn get_one(
    client: &Client,
    record: RecordId,
    range: Option<ByteRange>,
    output: Option<PathBuf>,
    show: Show,
) -> Result<Exit, Failure> {
    if output.as_deref() == Some(Path::new(STDOUT_IS)) {
        return to_stdout(client.get(record, range).await?, show).await;
    }
    let place = Place::new(output)?;
    let folder = place.folder();
    let target = Target::in_folder(&folder).map_err(|error| Failure::file(&folder, error))?;
    let answer = client.get_into(record, range, target.file()).await;
    let GetIntoAnswer { info, range, mut written } = answer.map_err(|error| unwritten(&place.shown(), error))?;
    let path = place.path(&info)?;
    let bar = progress::bytes(show, Some(range.end - range.start));
    while let Some(len) = written.try_next().await.map_err(|error| unwritten(&path, error))? {
        bar.set_position(len);
    }
    target.at(&path).finish_durably().map_err(|error| Failure::file(&path, error))?;
    bar.finish_and_clear();
    let path = path.to_string_lossy();
    let bytes = ByteLen(range.end - range.start);
    let told = serde_json::json!({ "record": info.record, "name": info.name, "path": path, "bytes": bytes });
    show.answer(&told, |_| format!("{path} ({})", len(bytes)));
    Ok(Exit::Done)
}

async fn to_stdout(mut answer: GetAnswer, show: Show) -> Result<Exit, Failure> {
    let mut stdout = std::io::stdout();
    let to_person = stdout.is_terminal();
    let bar = progress::bytes(
        Show { person: show.person && !to_person, ..show },
        Some(answer.range.end - answer.range.start),
    );
    while let Some(bytes) = answer.body.try_next().await? {
        stdout.write_all(&bytes).map_err(|error| Failure::io("the standard output", error))?;
        bar.inc(bytes.len() as u64);
    }
    stdout.flush().map_err(|error| Failure::io("the standard output", error))?;
    bar.finish_and_clear();
    Ok(Exit::Done)
}

/// What a failed read of a record into a file is; if the file is the reason, `path` is named.
fn unwritten(path: &Path, error: ClientError) -> Failure {
    let next = error.next_step();
    match error {
        ClientError::File(error) => Failure::file(path, error).next(next),
        ClientError::Refused(body) if body.error == ErrorCode::FileNotWritten => {
            Failure::new(format_args!("{}: {}", path.display(), body.message)).next(next)
        }
        error => error.into(),
    }
}

/// Where one record goes.
enum Place {
    /// The file named.
    File(PathBuf),
    /// A file of the record's name in the folder named, over one that is there.
    Folder(PathBuf),
    /// A new file of the record's name here.
    Here,
}

impl Place {
    fn new(output: Option<PathBuf>) -> Result<Self, Failure> {
        match output {
            Some(folder) if folder.is_dir() => Ok(Self::Folder(folder)),
            // A record comes in the place of what has its name: that must be no device.
            Some(other) if other.exists() && !other.is_file() => {
                Err(Failure::usage(format_args!("{} is neither a file nor a folder", other.display()))
                    .next("pass -o - and redirect the standard output"))
            }
            Some(file) => Ok(Self::File(file)),
            None => Ok(Self::Here),
        }
    }

    /// What a person calls it before the record is known.
    fn shown(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Folder(_) | Self::Here => self.folder(),
        }
    }

    /// Where its file is begun.
    fn folder(&self) -> PathBuf {
        let here = || std::env::current_dir().unwrap_or_else(|_| ".".into());
        match self {
            Self::File(path) => {
                path.parent().filter(|it| !it.as_os_str().is_empty()).map_or_else(here, Path::to_path_buf)
            }
            Self::Folder(folder) => folder.clone(),
            Self::Here => here(),
        }
    }

    /// Its file.
    fn path(self, info: &RecordInfo) -> Result<PathBuf, Failure> {
        let name = safe_name(&info.name).unwrap_or_else(|| info.record.to_string());
        let name = name.rsplit('/').next().unwrap_or(&name).to_owned();
        match self {
            Self::File(path) => Ok(path),
            Self::Folder(folder) => Ok(folder.join(name)),
            Self::Here if Path::new(&name).exists() => Err(Failure::new(format_args!("{name} exists here already"))
                .next("pass -o FILE, or -o - for the standard output")),
            Self::Here => Ok(name.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_http::ErrorBody;
    use bithealth_http::api::RecordState;
    use bithealth_types::NodeId;

    fn info(name: &str) -> RecordInfo {
        RecordInfo {
            record: RecordId([1; 16]),
            name: name.to_owned(),
            patient: String::new(),
            category: String::new(),
            media_type: String::new(),
            bytes: ByteLen(1),
            time_ms: 0,
            organisation: String::new(),
            author: NodeId([0; 32]),
            state: RecordState::Local,
            height: None,
            own: true,
        }
    }

    #[test]
    fn a_record_goes_where_it_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = |output: Option<PathBuf>, name| Place::new(output).unwrap().path(&info(name)).unwrap();
        assert_eq!(path(Some("x".into()), "a/b.json"), Path::new("x"));
        assert_eq!(path(Some(folder.path().into()), "a/b.json"), folder.path().join("b.json"));
        assert_eq!(path(None, "a/no such file.json"), Path::new("no such file.json"));
        assert_eq!(path(None, "../.."), Path::new("_"));
        assert_eq!(path(None, ""), Path::new(&"01".repeat(16)));
    }

    #[test]
    fn without_a_place_nothing_is_overwritten() {
        assert_eq!(Place::Here.path(&info("x/Cargo.toml")).unwrap_err().exit, Exit::Failed); // tests run beside it
    }

    #[test]
    fn a_device_is_not_replaced() {
        let refused = Place::new(Some("/dev/null".into())).err().unwrap();
        assert_eq!((refused.exit, refused.what.as_str()), (Exit::Usage, "/dev/null is neither a file nor a folder"));
    }

    #[test]
    fn a_file_is_begun_in_the_folder_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let begun = |output: Option<PathBuf>| Place::new(output).unwrap().folder();
        assert_eq!(begun(Some(folder.path().into())), folder.path());
        assert_eq!(begun(Some(folder.path().join("new"))), folder.path());
        let here = std::env::current_dir().unwrap();
        assert_eq!([begun(Some("new".into())), begun(None)], [here.clone(), here]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let refused = ErrorBody::new(ErrorCode::FileNotWritten, full());
        for error in [ClientError::File(full()), ClientError::Refused(refused)] {
            let failure = unwritten(Path::new("a/x"), error);
            assert!(failure.what.starts_with("a/x: "), "{}", failure.what);
            assert!(failure.next.unwrap().contains("free space"));
        }
        let other = ClientError::Refused(ErrorBody::new(ErrorCode::NotFound, "no such record"));
        assert_eq!(unwritten(Path::new("a/x"), other).what, "no such record");
    }
}
