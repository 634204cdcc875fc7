//! JSON documents of any shape, built rather than guessed.

use arbitrary::{Arbitrary, Result, Unstructured};
use serde_json::{Map, Number, Value};

/// How deep a document goes.
const DEPTH_MAX: u32 = 5;

/// A JSON value whose strings are taken from a list that matters, or made up.
#[derive(Debug)]
pub struct Document(pub Value);

impl Document {
    /// Reads one from the fuzzer's bytes; `words` are the names and values that mean something.
    pub fn read(bytes: &mut Unstructured<'_>, words: &[&str]) -> Result<Self> {
        value(bytes, words, DEPTH_MAX).map(Self)
    }
}

fn value(bytes: &mut Unstructured<'_>, words: &[&str], depth: u32) -> Result<Value> {
    Ok(match u8::arbitrary(bytes)? % if depth == 0 { 5 } else { 9 } {
        0 => Value::Null,
        1 => Value::Bool(bool::arbitrary(bytes)?),
        2 => Value::Number(u8::arbitrary(bytes)?.into()),
        3 => match Number::from_f64(f64::arbitrary(bytes)?) {
            Some(number) if bool::arbitrary(bytes)? => Value::Number(number),
            _ => Value::Number(i64::arbitrary(bytes)?.into()),
        },
        4 => Value::String(text(bytes, words)?),
        5 | 6 => {
            let count = u8::arbitrary(bytes)? % 6;
            let values = (0..count).map(|_| value(bytes, words, depth - 1));
            Value::Array(values.collect::<Result<_>>()?)
        }
        _ => {
            let mut map = Map::new();
            for _ in 0..u8::arbitrary(bytes)? % 10 {
                map.insert(text(bytes, words)?, value(bytes, words, depth - 1)?);
            }
            Value::Object(map)
        }
    })
}

fn text(bytes: &mut Unstructured<'_>, words: &[&str]) -> Result<String> {
    let choice = usize::from(u8::arbitrary(bytes)?);
    Ok(match words.get(choice) {
        Some(word) => (*word).to_owned(),
        None => <&str>::arbitrary(bytes)?.to_owned(),
    })
}
