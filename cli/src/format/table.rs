//! Tables as Docker prints them: Go's tabwriter with minimal width 10 and three blanks between.

/// Columns are at least this wide, padding included.
const WIDTH_MIN: usize = 10;

/// Blanks after the longest cell of a column.
const PADDING: usize = 3;

/// Lays out lines of tab-separated cells; the last cell of a line is never padded.
pub(super) fn align(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let padded = rows.iter().filter(|row| row.len() > column + 1);
            let longest = padded.map(|row| row[column].chars().count()).max().unwrap_or(0);
            (longest + PADDING).max(WIDTH_MIN)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let blanks = widths[column] - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_at_least_ten() {
        let lines = ["A\tB\tC".to_owned(), "long cell here\tä\tlast".to_owned()];
        assert_eq!(
            align(&lines),
            "A                B         C\nlong cell here   ä         last\n"
        );
        assert_eq!(align(&[]), "");
    }
}
