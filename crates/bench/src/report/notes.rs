//! What people write beside the figures: one Markdown file with a heading for each section that it adds to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::document::Section;

/// Prose by section.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    texts: BTreeMap<Section, String>,
}

impl Notes {
    /// Reads them; none if there is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("failed to understand {}", path.display()))
    }

    /// Texts under second-level headings that are those of the document. What stands before the first one is not shown.
    pub fn parse(text: &str) -> Result<Self> {
        let mut texts: BTreeMap<Section, String> = BTreeMap::new();
        let mut section = None;
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                let Some(known) = Section::ALL.into_iter().find(|known| known.heading() == heading.trim()) else {
                    bail!("the document has no section {heading:?}");
                };
                section = Some(known);
                continue;
            }
            if let Some(section) = section {
                let text = texts.entry(section).or_default();
                text.push_str(line);
                text.push('\n');
            }
        }
        for text in texts.values_mut() {
            *text = text.trim().to_owned();
        }
        Ok(Self { texts })
    }

    /// What belongs to a section; empty if nothing does.
    pub fn of(&self, section: Section) -> &str {
        self.texts.get(&section).map_or("", String::as_str)
    }
}
