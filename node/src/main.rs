//! The command line.

fn main() -> std::process::ExitCode {
    bithealth::cli::run()
}
