//! Rendering a parsed template with a value, as Go's text/template does.

use serde_json::Value;

use super::template::{Block, Command, Node, Operand, Pipeline, TemplateError};

/// A blank or two for `pad`, not a memory eater.
const PAD_MAX: i64 = 1000;

/// Renders nodes with `root` as dot and as `$`.
pub(super) fn render(nodes: &[Node], root: &Value) -> Result<String, TemplateError> {
    let mut text = String::new();
    Scope { root, dot: root }.nodes(nodes, &mut text)?;
    Ok(text)
}

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError::Execute(message.into())
}

struct Scope<'a> {
    root: &'a Value,
    dot: &'a Value,
}

impl Scope<'_> {
    fn nodes(&self, nodes: &[Node], text: &mut String) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(plain) => text.push_str(plain),
                Node::Print(pipeline) => text.push_str(&display(&self.pipeline(pipeline)?)),
                Node::Block { kind, pipeline, body, otherwise } => {
                    let value = self.pipeline(pipeline)?;
                    self.block(*kind, &value, (body, otherwise), text)?;
                }
            }
        }
        Ok(())
    }

    fn block(
        &self,
        kind: Block,
        value: &Value,
        (body, otherwise): (&[Node], &[Node]),
        text: &mut String,
    ) -> Result<(), TemplateError> {
        if !truth(value) {
            return self.nodes(otherwise, text);
        }
        let with = |dot| Scope { root: self.root, dot };
        match (kind, value) {
            (Block::If, _) => self.nodes(body, text),
            (Block::With, value) => with(value).nodes(body, text),
            (Block::Range, Value::Array(items)) => {
                items.iter().try_for_each(|item| with(item).nodes(body, text))
            }
            (Block::Range, Value::Object(fields)) => {
                sorted(fields).iter().try_for_each(|(_, item)| with(item).nodes(body, text))
            }
            (Block::Range, other) => Err(error(format!("range can't iterate over {other}"))),
        }
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in pipeline {
            last = Some(match command {
                Command::Operand(operand) => self.operand(operand)?,
                Command::Call(name, operands) => {
                    let arguments: Result<Vec<_>, _> =
                        operands.iter().map(|operand| self.operand(operand)).collect();
                    let mut arguments = arguments?;
                    arguments.extend(last);
                    call(name, &arguments)?
                }
            });
        }
        Ok(last.unwrap_or_default())
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        match operand {
            Operand::Field(path) => field(self.dot, path).cloned(),
            Operand::Root(path) => field(self.root, path).cloned(),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Nested(pipeline, path) => field(&self.pipeline(pipeline)?, path).cloned(),
        }
    }
}

fn field<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, TemplateError> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => {
            fields.get(name).ok_or_else(|| error(format!("there is no field {name:?}")))
        }
        Value::Null => Err(error(format!("nil has no field {name:?}"))),
        other => Err(error(format!("can't evaluate field {name} in {other}"))),
    })
}

/// Go's truth: not zero, not empty.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What Go's `%v` prints.
fn display(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = sorted(fields)
                .iter()
                .map(|(name, value)| format!("{name}:{}", display(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

fn sorted(fields: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    fields
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || error(format!("wrong arguments for {name}"));
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    match (name, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("title", [value]) => Ok(title(&text(value)?).into()),
        ("join", [Value::Array(items), Value::String(separator)]) => {
            let items: Vec<String> = items.iter().map(display).collect();
            Ok(items.join(separator).into())
        }
        ("split", [Value::String(text), Value::String(separator)]) => {
            Ok(text.split(separator.as_str()).map(Value::from).collect())
        }
        ("len", [value]) => length(value).map(Value::from).ok_or_else(wrong),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |v, k| index(&v, k)),
        ("truncate", [Value::String(text), Value::Number(len)]) => {
            let len = len.as_u64().and_then(|len| usize::try_from(len).ok()).ok_or_else(wrong)?;
            Ok(text.chars().take(len).collect::<String>().into())
        }
        ("pad", [Value::String(text), Value::Number(before), Value::Number(after)]) => {
            let blanks = |count: &serde_json::Number| {
                let count = count.as_i64().filter(|count| (0..=PAD_MAX).contains(count));
                count.and_then(|count| usize::try_from(count).ok()).map(|count| " ".repeat(count))
            };
            let (before, after) =
                (blanks(before).ok_or_else(wrong)?, blanks(after).ok_or_else(wrong)?);
            Ok(format!("{before}{text}{after}").into())
        }
        ("print", values) => Ok(values.iter().map(display).collect::<String>().into()),
        ("println", values) => {
            let values: Vec<String> = values.iter().map(display).collect();
            Ok(format!("{}\n", values.join(" ")).into())
        }
        ("not", [value]) => Ok((!truth(value)).into()),
        ("and", [.., last]) => Ok(arguments.iter().find(|v| !truth(v)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(arguments.iter().find(|v| truth(v)).unwrap_or(last).clone()),
        ("eq", [first, others @ ..]) if !others.is_empty() => Ok(others.contains(first).into()),
        ("ne", [one, other]) => Ok((one != other).into()),
        _ => Err(wrong()),
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        _ => None,
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    let found = match (value, key) {
        (Value::Array(items), Value::Number(at)) => {
            at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?))
        }
        // A map without the key gives the zero value, as in Go.
        (Value::Object(fields), Value::String(name)) => {
            return Ok(fields.get(name).cloned().unwrap_or_default());
        }
        _ => None,
    };
    found.cloned().ok_or_else(|| error(format!("there is nothing at index {key}")))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .flat_map(|letter| {
            let upper = at_start && letter.is_alphabetic();
            at_start = letter.is_whitespace();
            if upper { letter.to_uppercase().collect() } else { vec![letter] }
        })
        .collect()
}
