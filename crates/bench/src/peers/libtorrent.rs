//! libtorrent (rasterbar) by its Python package: BitTorrent v2, in clear or with the protocol's RC4.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Serving, Source, Tool, the_file};
use crate::corpus::Corpus;

/// Makes a torrent and seeds it, or downloads one from a peer and ends.
const SCRIPT: &str = r#"
import sys, time
import libtorrent as lt

mode, torrent, folder, peer, rc4 = sys.argv[1:6]
settings = {
    "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
    "enable_natpmp": False, "allow_multiple_connections_per_ip": True, "alert_mask": 0,
    "enable_outgoing_utp": False, "enable_incoming_utp": False,
}
policy = lt.enc_policy.forced if rc4 == "rc4" else lt.enc_policy.disabled
level = lt.enc_level.rc4 if rc4 == "rc4" else lt.enc_level.plaintext
settings.update({"out_enc_policy": int(policy), "in_enc_policy": int(policy), "allowed_enc_level": int(level)})
session = lt.session(settings)
if mode == "seed":
    name = peer
    files = lt.file_storage()
    lt.add_files(files, folder + "/" + name)
    made = lt.create_torrent(files, 0, lt.create_torrent_flags_t.v2_only)
    lt.set_piece_hashes(made, folder)
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = folder
if mode == "seed":
    params.flags |= lt.torrent_flags.seed_mode
handle = session.add_torrent(params)
if mode == "seed":
    while not session.listen_port():
        time.sleep(0.01)
    print(session.listen_port(), flush=True)
    while True:
        time.sleep(60)
host, port = peer.split(":")
handle.connect_peer((host, int(port)))
while not handle.status().is_seeding:
    time.sleep(0.005)
handle.flush_cache()
session.pause()
"#;

/// How bytes cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Readable to everybody.
    None,
    /// As BitTorrent has it (message stream encryption), without authentication.
    Rc4,
}

/// libtorrent.
pub(super) struct Libtorrent {
    pub(super) python: PathBuf,
    pub(super) encryption: Encryption,
}

struct Ready {
    process: Serving,
    python: PathBuf,
    torrent: PathBuf,
    port: String,
    encryption: &'static str,
}

impl Encryption {
    fn word(self) -> &'static str {
        if self == Self::Rc4 { "rc4" } else { "clear" }
    }
}

impl Tool for Libtorrent {
    fn name(&self) -> &'static str {
        match self.encryption {
            Encryption::None => "libtorrent v2, in clear",
            Encryption::Rc4 => "libtorrent v2, RC4",
        }
    }

    fn version(&self) -> Option<String> {
        let say = "import libtorrent; print('libtorrent', libtorrent.__version__)";
        let output = Command::new(&self.python).args(["-c", say]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let (torrent, file, word) = (folder.join("torrent"), the_file(corpus)?, self.encryption.word());
        let name = file.file_name().context("a file has a name")?;
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT, "seed"]).arg(&torrent).arg(&corpus.folder).arg(name).arg(word);
        command.stdout(Stdio::piped()).stderr(fs::File::create(folder.join("seed-stderr"))?);
        let mut process = Serving(command.spawn()?);
        let mut port = String::new();
        BufReader::new(process.0.stdout.take().expect("it is piped")).read_line(&mut port)?;
        ensure!(!port.is_empty(), "{}", fs::read_to_string(folder.join("seed-stderr"))?);
        let (python, port, encryption) = (self.python.clone(), port.trim().to_owned(), word);
        Ok(Box::new(Ready { process, python, torrent, port, encryption }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        vec![self.process.0.id()]
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT, "download"]).arg(&self.torrent).arg(into);
        command.arg(format!("127.0.0.1:{}", self.port)).arg(self.encryption);
        Ok(command)
    }
}
