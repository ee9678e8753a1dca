//! What a figure depends on: the machine and the build. No names of hosts, users or folders.

use std::path::Path;

use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt as _;

/// The machine of a run. What it does not tell is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Processors that this program may use.
    pub processors: u32,
    /// Whether a hypervisor lies between: then others' load shows in the figures.
    pub is_virtual: bool,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's version.
    pub kernel: String,
    /// What the kernel reads the time from.
    pub clock_source: String,
    /// The file system that was written to.
    pub file_system: String,
    /// The kind of its disk, such as `virtio`, and whether it has a cache of its own that a sync must empty.
    pub disk: String,
}

/// How the program was built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The program's version.
    pub version: String,
    /// The commit, if it was told when building.
    pub commit: Option<String>,
    /// The compiler, if it was told when building.
    pub compiler: Option<String>,
    /// `release` or `debug`.
    pub profile: String,
}

impl Build {
    /// Of this program. `cargo xtask performance` tells commit and compiler.
    pub fn of_this_program() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("MERIDIAN_BUILD_COMMIT").map(str::to_owned),
            compiler: option_env!("MERIDIAN_BUILD_COMPILER").map(str::to_owned),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

impl Machine {
    /// Of this machine; `work` is the folder that a run writes to.
    pub fn of_this(work: &Path) -> Self {
        let (file_system, disk) = disk_of(work).unwrap_or_default();
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            processor: value_of(&processors, "model name").unwrap_or_default().to_owned(),
            processors: std::thread::available_parallelism().map_or(0, |count| count.get() as u32),
            is_virtual: value_of(&processors, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_bytes: memory_bytes().unwrap_or(0),
            kernel: kernel(),
            clock_source: line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            file_system,
            disk,
        }
    }
}

/// The kernel's name and the numbers of its version; what a vendor adds to them says nothing about speed.
fn kernel() -> String {
    let release = line_of("/proc/sys/kernel/osrelease");
    let version = release.split(['-', '+']).next().unwrap_or_default();
    format!("{} {version}", line_of("/proc/sys/kernel/ostype"))
}

/// The first line of a file, without blanks around it.
fn line_of(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The value of the first line `name : value`.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = value_of(&text, "MemTotal")?.strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// The file system of a folder, and its disk.
fn disk_of(folder: &Path) -> Option<(String, String)> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let id = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // A line is: id, parent, device, root, place, options, further ones, "-", file system, source, options.
    let file_system = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (before.split(' ').nth(2) == Some(id.as_str())).then(|| after.split(' ').next())?
    })?;
    let block = std::fs::canonicalize(format!("/sys/dev/block/{id}")).ok();
    let disk = block.map(|block| disk_kind(&block)).unwrap_or_default();
    Some((file_system.to_owned(), disk))
}

fn disk_kind(block: &Path) -> String {
    let text = block.to_string_lossy();
    let kind = ["nvme", "virtio", "mmc", "usb", "ata"]
        .into_iter()
        .find(|kind| text.contains(kind));
    // A partition has no queue of its own; its disk's folder is the one above.
    let queue = [Some(block), block.parent()]
        .into_iter()
        .flatten()
        .map(|block| block.join("queue"));
    let queue = queue.into_iter().find(|queue| queue.exists());
    let cache = queue.map(|queue| line_of(&queue.join("write_cache").to_string_lossy()));
    let mut parts: Vec<String> = kind.map(str::to_owned).into_iter().collect();
    if let Some(cache) = cache.filter(|cache| !cache.is_empty()) {
        parts.push(format!("{cache} cache"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_without_names_of_places() {
        let machine = Machine::of_this(&std::env::temp_dir());
        assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20);
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        let text = serde_json::to_string(&machine).unwrap();
        let home = std::env::var("HOME").unwrap_or_else(|_| "/nowhere".to_owned());
        assert!(home.len() < 2 || !text.contains(&home), "{text}");
    }

    #[test]
    fn values_are_found_by_their_names() {
        let text = "model name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n";
        assert_eq!(value_of(text, "model name"), Some("AMD EPYC"));
        assert_eq!(value_of(text, "model"), None);
    }
}
