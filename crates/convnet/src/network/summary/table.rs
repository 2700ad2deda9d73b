//! A table of text: columns as wide as they need, long cells broken into lines.

/// How a column is set.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// Whether it is flush right, as numbers are.
    pub right: bool,
    /// Width below which its cells are not broken into lines; `None` if they never are.
    pub least: Option<usize>,
    /// Spaces in front.
    pub gap: usize,
}

/// Rows under columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    rule_above_last: bool,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), rule_above_last: false }
    }

    /// Adds a row with a cell for each column.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Draws a line above the last row.
    pub fn rule_above_last(&mut self) {
        self.rule_above_last = true;
    }

    /// Letters in a line when no cell is broken.
    pub fn natural_width(&self) -> usize {
        self.widths(usize::MAX).iter().sum::<usize>() + self.gaps()
    }

    fn gaps(&self) -> usize {
        self.columns.iter().map(|column| column.gap).sum()
    }

    /// Writes the table, if possible no wider than `width` letters.
    pub fn to_text(&self, width: usize) -> String {
        let widths = self.widths(width);
        let total = widths.iter().sum::<usize>() + self.gaps();
        let rule = "─".repeat(total);
        let heads: Vec<String> = self.columns.iter().map(|column| column.head.to_owned()).collect();
        let mut lines = self.row_lines(&heads, &widths);
        lines.push(rule.clone());
        for (number, row) in self.rows.iter().enumerate() {
            if self.rule_above_last && number + 1 == self.rows.len() {
                lines.push(rule.clone());
            }
            lines.extend(self.row_lines(row, &widths));
        }
        lines.join("\n") + "\n"
    }

    /// The width of each column: what its longest cell needs, but where the table becomes too wide less for those columns
    /// that can be broken, the widest first.
    fn widths(&self, most: usize) -> Vec<usize> {
        let longest = |number: usize| self.rows.iter().filter_map(|row| row.get(number)).map(|cell| letters(cell)).max().unwrap_or(0);
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(number, column)| letters(column.head).max(longest(number))).collect();
        let gaps = self.gaps();
        while widths.iter().sum::<usize>() + gaps > most {
            let room = |&number: &usize| self.columns[number].least.is_some_and(|least| widths[number] > least);
            let Some(widest) = (0..widths.len()).filter(room).max_by_key(|&number| widths[number]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn row_lines(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, &width)| wrap(cell, width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let line = |number: usize| {
            let mut line = String::new();
            for ((cell, column), &width) in cells.iter().zip(&self.columns).zip(widths) {
                let text = cell.get(number).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(letters(text)));
                line.push_str(&" ".repeat(column.gap));
                let (before, after) = if column.right { (space.as_str(), "") } else { ("", space.as_str()) };
                line.extend([before, text, after]);
            }
            line.trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }
}

/// Breaks a text into lines of at most `width` letters: at a space, else behind a `·`, a `.` or an `_`, else anywhere.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let space = (1..=width).rev().find(|&place| rest[place] == ' ');
        let mark = (1..width).rev().find(|&place| matches!(rest[place - 1], '·' | '.' | '_')).filter(|&place| place > width / 2);
        let end = space.or(mark).unwrap_or(width);
        lines.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        rest.drain(..end);
        let spaces = rest.iter().take_while(|letter| **letter == ' ').count();
        rest.drain(..spaces);
    }
    if !rest.is_empty() {
        lines.push(rest.into_iter().collect());
    }
    lines
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_break_at_spaces_then_at_signs_then_anywhere() {
        assert_eq!(wrap("(3·3·512 + 1)·512", 10), ["(3·3·512 +", "1)·512"]);
        assert_eq!(wrap("layer4.downsample.weight", 12), ["layer4.", "downsample.", "weight"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""; 0]);
    }

    #[test]
    fn a_table_keeps_to_its_width_by_breaking_the_widest_column_that_can_be() {
        let left = Column { head: "layer", right: false, least: Some(5), gap: 0 };
        let right = Column { head: "count", right: true, least: None, gap: 2 };
        let mut table = Table::new(vec![left, right]);
        table.push(vec!["conv 64 3x3".into(), "1,792".into()]);
        table.push(vec!["total".into(), "123,456,789".into()]);
        table.rule_above_last();
        assert_eq!(
            table.to_text(20),
            "layer          count\n\
             ────────────────────\n\
             conv 64        1,792\n\
             3x3\n\
             ────────────────────\n\
             total    123,456,789\n"
        );
        assert!(table.to_text(80).lines().all(|line| line.chars().count() <= 24));
    }
}
