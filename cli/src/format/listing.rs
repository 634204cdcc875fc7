//! What `--format` and `--quiet` mean for commands that list things.

use serde_json::Value;

use super::table;
use super::template::{Template, TemplateError};

/// A header and the field below it.
type Column = (&'static str, &'static str);

/// How to print rows.
#[derive(Clone, Debug)]
pub(crate) enum Listing {
    /// One template a row.
    Rows(Template),
    /// A header, rows, and aligned columns.
    Table {
        /// The first line.
        header: String,
        /// One line.
        row: Template,
    },
}

impl Listing {
    /// Reads `--format`; `columns` are those of the default table, `more` what else has a header.
    pub(crate) fn new(
        format: Option<&str>,
        quiet: bool,
        columns: &[Column],
        more: &[Column],
    ) -> Result<Self, TemplateError> {
        let format = format.map(str::trim).unwrap_or_default();
        if quiet && (format.is_empty() || format == "table") {
            return Template::parse("{{.ID}}").map(Self::Rows);
        }
        match format.strip_prefix("table") {
            None if !format.is_empty() => Template::of_format(format).map(Self::Rows),
            None | Some("") => Self::table(&default_row(columns), columns, &[]),
            Some(row) => Self::table(row.trim(), columns, more),
        }
    }

    fn table(row: &str, columns: &[Column], more: &[Column]) -> Result<Self, TemplateError> {
        let row = Template::parse(row)?;
        let headers: serde_json::Map<String, Value> = more
            .iter()
            .chain(columns)
            .map(|(header, field)| ((*field).to_owned(), Value::from(*header)))
            .collect();
        Ok(Self::Table { header: row.render(&Value::Object(headers))?, row })
    }

    /// Prints the rows.
    pub(crate) fn render(&self, rows: &[Value]) -> Result<String, TemplateError> {
        match self {
            Self::Rows(template) => {
                let lines: Result<Vec<_>, _> =
                    rows.iter().map(|row| template.render(row).map(|line| line + "\n")).collect();
                Ok(lines?.concat())
            }
            Self::Table { header, row: template } => {
                let mut lines = vec![header.clone()];
                for row in rows {
                    lines.push(template.render(row)?);
                }
                Ok(table::align(&lines))
            }
        }
    }
}

fn default_row(columns: &[Column]) -> String {
    let fields: Vec<String> =
        columns.iter().map(|(_, field)| format!("{{{{.{field}}}}}")).collect();
    fields.join("\t")
}
