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
    let folder = folder_for(output.as_deref());
    let target = Target::in_folder(&folder).map_err(|error| Failure::file(&folder, error))?;
    let GetIntoAnswer { info, range, mut written } = client.get_into(record, range, target.file()).await?;
    let path = path_for(output, &info)?;
    let bar = progress::bytes(show, Some(range.end - range.start));
    while let Some(len) = written.try_next().await.map_err(|error| unwritten(&path, error))? {
        bar.set_position(len);
    }
    target.finish_durably(&path).map_err(|error| Failure::file(&path, error))?;
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

/// What a failed read of a record into a file is; if the file is the reason, it is named.
fn unwritten(path: &Path, error: ClientError) -> Failure {
    match error {
        ClientError::Refused(body) if body.error == ErrorCode::FileNotWritten => {
            Failure::new(format_args!("{}: {}", path.display(), body.message)).next(body.next_step)
        }
        error => error.into(),
    }
}

/// In which folder one record goes.
fn folder_for(output: Option<&Path>) -> PathBuf {
    let folder = match output {
        Some(folder) if folder.is_dir() => Some(folder),
        Some(file) => file.parent(),
        None => None,
    };
    folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Where one record goes: the file named, into the folder named, or a new file of the record's name here.
fn path_for(output: Option<PathBuf>, info: &RecordInfo) -> Result<PathBuf, Failure> {
    let name = safe_name(&info.name).unwrap_or_else(|| info.record.to_string());
    let name = name.rsplit('/').next().unwrap_or(&name).to_owned();
    match output {
        Some(folder) if folder.is_dir() => Ok(folder.join(name)),
        Some(file) => Ok(file),
        None if Path::new(&name).exists() => Err(Failure::new(format_args!("{name} exists here already"))
            .next("pass -o FILE, or -o - for the standard output")),
        None => Ok(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let path = |output: Option<PathBuf>, name| path_for(output, &info(name)).unwrap();
        assert_eq!(path(Some("x".into()), "a/b.json"), Path::new("x"));
        assert_eq!(path(Some(folder.path().into()), "a/b.json"), folder.path().join("b.json"));
        assert_eq!(path(None, "a/no such file.json"), Path::new("no such file.json"));
        assert_eq!(path(None, "../.."), Path::new("_"));
        assert_eq!(path(None, ""), Path::new(&"01".repeat(16)));
        assert_eq!(folder_for(Some(folder.path())), folder.path());
        assert_eq!(folder_for(Some(&folder.path().join("new"))), folder.path());
        assert_eq!([folder_for(Some(Path::new("new"))), folder_for(None)], [Path::new("."); 2]);
    }

    #[test]
    fn without_a_place_nothing_is_overwritten() {
        assert_eq!(path_for(None, &info("x/Cargo.toml")).unwrap_err().exit, Exit::Failed); // tests run beside it
    }
}
