//! `samples FOLDER`: writes the samples of each target to `FOLDER/<target>/`, for a fuzzer to start from.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned()));
    for target in fuzzing::TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (index, sample) in fuzzing::samples(target.name).iter().enumerate() {
            std::fs::write(folder.join(format!("sample-{index}")), sample)?;
        }
    }
    Ok(())
}
