//! The program `meridian`. All of it is in the library beside this file, so that tests can reach it.

/// The exchange's tables are large and read at random places.
#[global_allocator]
static ALLOCATOR: pages::HugePages = pages::HugePages;

fn main() -> std::process::ExitCode {
    node::cli::run()
}
