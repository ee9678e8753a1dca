//! Tables for people: columns as wide as their widest cell, numbers to the right, two spaces between.

use std::fmt;

/// On which side the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// A table that prints itself with its titles.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns. A title that starts with `#` is a column of numbers; the sign is not shown.
    pub fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('#') {
            Some(title) => (title, Align::Right),
            None => (*title, Align::Left),
        };
        Self {
            columns: titles.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    /// True if it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let cells = |column: usize| self.rows.iter().map(move |row| width(&row[column]));
        let titles = self.columns.iter().enumerate();
        titles
            .map(|(column, (title, _))| cells(column).max().unwrap_or(0).max(width(title)))
            .collect()
    }

    fn write_line<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cells: impl Iterator<Item = &'a str>,
    ) -> fmt::Result {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let gap = " ".repeat(widths[column] - width(cell));
            let separator = if column == 0 { "" } else { "  " };
            match self.columns[column].1 {
                Align::Left => line.extend([separator, cell, &gap]),
                Align::Right => line.extend([separator, &gap, cell]),
            }
        }
        writeln!(f, "{}", line.trim_end())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        self.write_line(f, &widths, self.columns.iter().map(|(title, _)| *title))?;
        for row in &self.rows {
            self.write_line(f, &widths, row.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&["SIDE", "#PRICE", "NOTE"]);
        assert!(table.is_empty());
        assert_eq!(table.to_string(), "SIDE  PRICE  NOTE\n");
        table.row(["buy".into(), "50000.1".into(), String::new()]);
        table.row(["sell".into(), "9".into(), "été".into()]);
        assert_eq!(
            table.to_string(),
            "SIDE    PRICE  NOTE\nbuy   50000.1\nsell        9  été\n"
        );
    }

    #[test]
    #[should_panic(expected = "a cell for each column")]
    fn a_short_row_is_a_mistake() {
        Table::new(&["A", "B"]).row(["1".into()]);
    }
}
