//! Reads the vector files of the shared data folder.

use std::env;
use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crypto");

/// The bytes of a file, or `None`, said loudly, where the data are not there and need not be.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(FOLDER).join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if required() => panic!("vectors {}: {error}", path.display()),
        Err(error) => {
            eprintln!("SKIPPED, nothing was tested: vectors {}: {error}", path.display());
            None
        }
    }
}

/// The same, as JSON.
pub(crate) fn read_json(name: &str) -> Option<Value> {
    read(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn required() -> bool {
    ["BITHEALTH_REQUIRE_DATA", "CI"].iter().any(|name| env::var_os(name).is_some())
}

/// The bytes of a hexadecimal field.
pub(crate) fn hex(object: &Value, field: &str) -> Vec<u8> {
    let text = object[field].as_str().unwrap_or_else(|| panic!("no field {field} in {object}"));
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}
