//! Words of a template's action (what is between the braces).

use serde_json::Value;

use super::template::TemplateError;

/// One word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// `.a.b`, or `.`.
    Field(Vec<String>),
    /// `$.a.b`, or `$`.
    Root(Vec<String>),
    /// A function's or block's name.
    Name(String),
    /// A text, number or truth value.
    Literal(Value),
    /// `|`.
    Pipe,
    /// `(`.
    Open,
    /// `)`, and fields of the result.
    Close(Vec<String>),
}

/// Takes an action apart.
pub(super) fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut rest = action.trim();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, left) = match first {
            '|' => (Token::Pipe, &rest[1..]),
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (path, left) = path(&rest[1..])?;
                (Token::Close(path), left)
            }
            '.' => {
                let (path, left) = path(rest)?;
                (Token::Field(path), left)
            }
            '$' if rest[1..].starts_with(|next: char| next.is_alphanumeric() || next == '_') => {
                return Err(unsupported("variables", rest));
            }
            '$' => {
                let (path, left) = path(&rest[1..])?;
                (Token::Root(path), left)
            }
            '"' | '`' => text(rest, first)?,
            '0'..='9' | '-' | '+' => number(rest)?,
            letter if letter.is_alphabetic() || letter == '_' => name(rest),
            _ => return Err(unsupported("this", rest)),
        };
        tokens.push(token);
        rest = left.trim_start();
    }
    Ok(tokens)
}

fn unsupported(what: &str, at: &str) -> TemplateError {
    TemplateError::Parse(format!("{what} at {at:?} is not supported in husk's templates"))
}

/// `.a.b.c`; a lone dot has no names.
fn path(text: &str) -> Result<(Vec<String>, &str), TemplateError> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let end = word_end(after);
        if end == 0 {
            if names.is_empty() && !after.starts_with('.') {
                return Ok((names, after));
            }
            return Err(TemplateError::Parse(format!("unexpected . at {rest:?}")));
        }
        names.push(after[..end].to_owned());
        rest = &after[end..];
    }
    Ok((names, rest))
}

fn word_end(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

fn name(text: &str) -> (Token, &str) {
    let (word, rest) = text.split_at(word_end(text));
    let token = match word {
        "true" => Token::Literal(Value::Bool(true)),
        "false" => Token::Literal(Value::Bool(false)),
        "nil" => Token::Literal(Value::Null),
        _ => Token::Name(word.to_owned()),
    };
    (token, rest)
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - sign);
    let (number, rest) = text.split_at(sign + digits);
    let number: i64 =
        number.parse().map_err(|_| TemplateError::Parse(format!("bad number at {text:?}")))?;
    Ok((Token::Literal(number.into()), rest))
}

/// `"…"` with backslash escapes, or a raw text in backquotes.
fn text(text: &str, quote: char) -> Result<(Token, &str), TemplateError> {
    let mut content = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            letter if letter == quote => {
                return Ok((Token::Literal(content.into()), &text[at + 1..]));
            }
            '\\' if quote == '"' => match letters.next() {
                Some((_, 'n')) => content.push('\n'),
                Some((_, 't')) => content.push('\t'),
                Some((_, same @ ('"' | '\\'))) => content.push(same),
                _ => return Err(unsupported("the escape", &text[at..])),
            },
            letter => content.push(letter),
        }
    }
    Err(TemplateError::Parse("unterminated quoted string".to_owned()))
}
