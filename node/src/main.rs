//! The command line.

fn main() -> std::process::ExitCode {
    bithealth::allocator::tune();
    bithealth::cli::run()
}
