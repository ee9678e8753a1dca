//! What may not stand in a source file, whatever the compiler says.

use anyhow::Result;

use crate::run;
use crate::summary::Outcome;

/// A file longer than this asks to be split.
const LINES_MAX: usize = 800;

/// Texts that may not occur in Rust files, and why. Written in two halves, so that this file doesn't hold them.
const BANNED: &[(&str, &str, &str)] = &[
    ("todo", "!(", "finish it, or reject it by name"),
    ("unimplemented", "!(", "finish it, or reject it by name"),
    ("#[ig", "nore", "a test that doesn't run proves nothing"),
    ("#[all", "ow(", "use #[expect(lint, reason = \"…\")]"),
    ("#![all", "ow(", "use #![expect(lint, reason = \"…\")]"),
    ("dbg", "!(", "use tracing, or nothing"),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[(&str, &str)] = &[("/ho", "me/"), ("/ro", "ot/"), ("/Use", "rs/"), ("/wo", "rk/")];

/// Reads every text file of the repository.
pub fn check() -> Result<Outcome> {
    let files = run::files(&[".rs", ".md", ".toml", ".sh", ".yml", ".yaml", ".json", ".ci/run"])?;
    let mut faults = Vec::new();
    for file in &files {
        let name = file.display();
        let text = std::fs::read_to_string(file)?;
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        if is_rust && text.lines().count() > LINES_MAX {
            faults.push(format!(
                "{name}: {} lines, at most {LINES_MAX}: split it",
                text.lines().count()
            ));
        }
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            if is_rust {
                faults.extend(banned_in(line).map(|(what, why)| format!("{place}: {what} is banned: {why}")));
            }
            if let Some((first, second)) = MACHINE_PATHS.iter().find(|(a, b)| line.contains(&format!("{a}{b}"))) {
                faults.push(format!("{place}: {first}{second}… is a path of one machine"));
            }
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                faults.push(format!("{place}: an unresolved merge"));
            }
        }
    }
    Ok(Outcome::from_faults(faults, format!("{} files", files.len())))
}

fn banned_in(line: &str) -> impl Iterator<Item = (String, &'static str)> {
    BANNED
        .iter()
        .map(|(first, second, why)| (format!("{first}{second}"), *why))
        .filter(|(what, _)| line.contains(what.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_texts_are_found() {
        let found = |line: &str| banned_in(line).count();
        assert_eq!(found("let x = 1;"), 0);
        assert_eq!(found("#[expect(dead_code, reason = \"…\")]"), 0);
        assert_eq!(found(concat!("    to", "do!()")), 1);
        assert_eq!(found(concat!("#[al", "low(dead_code)]")), 1);
        assert_eq!(found(concat!("#[ig", "nore]")), 1);
    }
}
