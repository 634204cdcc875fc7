//! A small, honest subset of Go's text/template: fields, `if`, `range`, `with`, pipelines and the
//! functions that Docker documents. What it does not know is an error, never silently wrong.

use serde_json::Value;

use super::{eval, parser};
use crate::exit::Failure;

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

/// Why a template cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// It is malformed, or uses what this subset does not have.
    #[error("template parsing error: {0}")]
    Parse(String),
    /// It does not fit the value.
    #[error("failed to execute template: {0}")]
    Execute(String),
}

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Node {
    /// Text outside of braces.
    Text(String),
    /// `{{pipeline}}`.
    Print(Pipeline),
    /// `{{if}} … {{else}} … {{end}}` and its kin.
    Block {
        /// Which.
        kind: Block,
        /// What it looks at.
        pipeline: Pipeline,
        /// The first body.
        body: Vec<Node>,
        /// The body after `else`.
        otherwise: Vec<Node>,
    },
}

/// The blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Block {
    /// The body if the value is not empty.
    If,
    /// The body once for each element, as dot.
    Range,
    /// The body with the value as dot, if it is not empty.
    With,
}

/// `a | b | c`: each result is the last argument of the next.
pub(super) type Pipeline = Vec<Command>;

/// A function with arguments, or a single operand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Command {
    /// A value.
    Operand(Operand),
    /// A call.
    Call(String, Vec<Operand>),
}

/// An argument.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Operand {
    /// `.a.b`; just `.` without names.
    Field(Vec<String>),
    /// `$.a.b`, from the top.
    Root(Vec<String>),
    /// A text, number or truth value.
    Literal(Value),
    /// `(pipeline)`, and fields of it.
    Nested(Pipeline, Vec<String>),
}

impl Template {
    /// Parses a template; `\t` and `\n` stand for tab and newline, as in Docker.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        parser::parse(&text).map(Self)
    }

    /// What `--format` means: `json`, or a template.
    pub(crate) fn of_format(text: &str) -> Result<Self, TemplateError> {
        Self::parse(if text == "json" { "{{json .}}" } else { text })
    }

    /// Fills it with a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        eval::render(&self.0, value)
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(template: &str, value: &Value) -> Result<String, TemplateError> {
        Template::parse(template)?.render(value)
    }

    fn example() -> Value {
        json!({
            "ID": "ab", "N": 7, "On": true, "Off": false, "Empty": "", "Null": null,
            "State": {"Status": "running"}, "List": ["x", "y"], "Map": {"b": 2, "a": 1},
        })
    }

    #[test]
    fn values_print_as_in_go() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.ID}}-{{ .N }}", "ab-7"),
            ("{{.State.Status}}", "running"),
            ("{{.On}}", "true"),
            ("{{.List}}", "[x y]"),
            ("{{.Map}}", "map[a:1 b:2]"),
            ("{{.Null}}", "<no value>"),
            ("a {{- .ID -}} b", "aabb"),
            ("{{/* nothing */}}x", "x"),
            ("{{.ID}}\\t{{.N}}", "ab\t7"),
        ] {
            assert_eq!(render(template, &example()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn functions_take_arguments_and_pipelines() {
        for (template, expected) in [
            ("{{json .List}}", r#"["x","y"]"#),
            ("{{.ID | upper}}", "AB"),
            ("{{upper .ID | lower}}", "ab"),
            ("{{title .ID}}", "Ab"),
            ("{{join .List \", \"}}", "x, y"),
            ("{{split \"a,b\" \",\"}}", "[a b]"),
            ("{{index .List 1}}", "y"),
            ("{{index .Map \"a\"}}", "1"),
            ("{{len .List}}", "2"),
            ("{{(index .List 0) | upper}}", "X"),
            ("{{truncate \"abcdef\" 3}}", "abc"),
            ("{{pad .ID 1 2}}", " ab  "),
            ("{{eq .ID \"ab\"}} {{ne .N 7}}", "true false"),
            ("{{print .ID .N}}", "ab7"),
        ] {
            assert_eq!(render(template, &example()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn blocks_choose_and_repeat() {
        for (template, expected) in [
            ("{{if .On}}yes{{else}}no{{end}}", "yes"),
            ("{{if .Empty}}yes{{else if .On}}second{{end}}", "second"),
            ("{{if and .On (not .Off)}}y{{end}}", "y"),
            ("{{range .List}}<{{.}}>{{end}}", "<x><y>"),
            ("{{range .Map}}{{.}},{{end}}", "1,2,"),
            ("{{range .Null}}x{{else}}none{{end}}", "none"),
            ("{{with .State}}{{.Status}}{{$.ID}}{{end}}", "runningab"),
        ] {
            assert_eq!(render(template, &example()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for template in [
            "{{.ID",
            "{{end}}",
            "{{if .ID}}",
            "{{nope .ID}}",
            "{{$x := 1}}",
            "{{template \"a\"}}",
            "{{}}",
            "{{\"a}}",
        ] {
            assert!(
                matches!(Template::parse(template), Err(TemplateError::Parse(_))),
                "{template}"
            );
        }
        for template in ["{{.Nope}}", "{{.ID.Sub}}", "{{index .List 9}}", "{{join .ID \",\"}}"] {
            let result = render(template, &example());
            assert!(matches!(result, Err(TemplateError::Execute(_))), "{template}: {result:?}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = format!("{}{}", "{{if .}}".repeat(2000), "{{end}}".repeat(2000));
        assert!(Template::parse(&deep).is_err());
        let deep = format!("{{{{{}.{}}}}}", "(".repeat(2000), ")".repeat(2000));
        assert!(Template::parse(&deep).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}a-z.|()\"$ 0-9-]{0,60}") {
            let _ = render(&text, &example());
        }
    }
}
