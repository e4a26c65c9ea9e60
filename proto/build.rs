//! Compiles `bithealth/v1/*.proto` into Rust types; `protox` reads them, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["members", "pack", "consensus", "ledger", "wire", "local"].map(|name| format!("bithealth/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let set = protox::compile(files, ["."])?;
    prost_build::Config::new().bytes(["."]).compile_fds(set)?;
    Ok(())
}
