//! The program `meridian`. All of it is in the library beside this file, so that tests can reach it.

fn main() -> std::process::ExitCode {
    node::cli::run()
}
