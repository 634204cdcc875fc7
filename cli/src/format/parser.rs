//! From a template's text to its nodes.

use super::template::{Block, Command, Node, Operand, Pipeline, TemplateError};
use super::token::{Token, tokens};

/// The functions that exist; an unknown name is an error before anything is rendered.
const FUNCTIONS: [&str; 17] = [
    "and", "eq", "index", "join", "json", "len", "lower", "ne", "not", "or", "pad", "print",
    "println", "split", "title", "truncate", "upper",
];

/// Blocks and parentheses inside of each other: hostile nesting must not exhaust the stack.
const DEPTH_MAX: usize = 100;

/// Parses a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: split(text)?, at: 0 };
    let (nodes, end) = parser.nodes(0)?;
    match end {
        None => Ok(nodes),
        Some(word) => Err(error(format!("unexpected {{{{{word}}}}}"))),
    }
}

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError::Parse(message.into())
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// Splits text from actions; `{{-` and `-}}` trim the text beside them.
fn split(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_start = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let trim_end = after.is_some_and(|after| after.starts_with("- "));
        let mut plain = if trim_start { before.trim_start() } else { before };
        if trim_end {
            plain = plain.trim_end();
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.to_owned()));
        }
        let Some(after) = after else { return Ok(pieces) };
        let after = if trim_end { &after[1..] } else { after };
        let (action, left) =
            after.split_once("}}").ok_or_else(|| error(format!("unclosed action {after:?}")))?;
        trim_start = action.ends_with(" -");
        let action = if trim_start { &action[..action.len() - 1] } else { action };
        let comment = action.trim();
        if !(comment.starts_with("/*") && comment.ends_with("*/")) {
            pieces.push(Piece::Action(tokens(action)?));
        }
        rest = left;
    }
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    /// Nodes up to the end or to `else`/`end`, which is given back with what follows it.
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<String>), TemplateError> {
        if depth > DEPTH_MAX {
            return Err(error("blocks are nested too deeply"));
        }
        let mut nodes = Vec::new();
        while self.at < self.pieces.len() {
            let tokens = match &self.pieces[self.at] {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    self.at += 1;
                    continue;
                }
                Piece::Action(tokens) => tokens.clone(),
            };
            let word = match tokens.first() {
                Some(Token::Name(word)) => word.as_str(),
                _ => "",
            };
            match (word, block(word)) {
                ("end" | "else", _) => return Ok((nodes, Some(word.to_owned()))),
                (_, Some(kind)) => {
                    self.at += 1;
                    nodes.push(self.block(kind, &tokens[1..], depth)?);
                }
                _ => {
                    self.at += 1;
                    nodes.push(Node::Print(pipeline(&tokens)?));
                }
            }
        }
        Ok((nodes, None))
    }

    /// The rest of a block, up to and with its `end`.
    fn block(
        &mut self,
        kind: Block,
        condition: &[Token],
        depth: usize,
    ) -> Result<Node, TemplateError> {
        let condition = pipeline(condition)?;
        let (body, end) = self.nodes(depth + 1)?;
        let mut otherwise = Vec::new();
        match end.as_deref() {
            Some("else") => {
                let Piece::Action(tokens) = &self.pieces[self.at] else {
                    unreachable!("else is an action")
                };
                let tokens = tokens.clone();
                self.at += 1;
                if let [_, Token::Name(word), rest @ ..] = tokens.as_slice() {
                    // `else if` shares the end of its block.
                    let kind = block(word).ok_or_else(|| error(format!("unexpected {word}")))?;
                    otherwise.push(self.block(kind, rest, depth + 1)?);
                } else {
                    let (nodes, end) = self.nodes(depth + 1)?;
                    otherwise = nodes;
                    self.expect_end(end.as_deref())?;
                }
            }
            end => self.expect_end(end)?,
        }
        Ok(Node::Block { kind, pipeline: condition, body, otherwise })
    }

    fn expect_end(&mut self, end: Option<&str>) -> Result<(), TemplateError> {
        match end {
            Some("end") => {
                self.at += 1;
                Ok(())
            }
            Some(word) => Err(error(format!("unexpected {{{{{word}}}}}"))),
            None => Err(error("unexpected end of the template: {{end}} is missing")),
        }
    }
}

fn block(word: &str) -> Option<Block> {
    match word {
        "if" => Some(Block::If),
        "range" => Some(Block::Range),
        "with" => Some(Block::With),
        _ => None,
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, TemplateError> {
    let mut words = Words { tokens, at: 0 };
    let pipeline = words.pipeline(0)?;
    if words.at < tokens.len() {
        return Err(error("unexpected \")\""));
    }
    Ok(pipeline)
}

struct Words<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Words<'_> {
    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(error("parentheses are nested too deeply"));
        }
        let mut commands = vec![self.command(depth, true)?];
        while self.tokens.get(self.at) == Some(&Token::Pipe) {
            self.at += 1;
            commands.push(self.command(depth, false)?);
        }
        Ok(commands)
    }

    fn command(&mut self, depth: usize, is_first: bool) -> Result<Command, TemplateError> {
        if let Some(Token::Name(name)) = self.tokens.get(self.at) {
            if !FUNCTIONS.contains(&name.as_str()) {
                return Err(error(format!("function {name:?} is not supported")));
            }
            self.at += 1;
            let mut arguments = Vec::new();
            while let Some(argument) = self.operand(depth)? {
                arguments.push(argument);
            }
            return Ok(Command::Call(name.clone(), arguments));
        }
        if !is_first {
            return Err(error("after | a function must follow"));
        }
        let operand = self.operand(depth)?.ok_or_else(|| error("missing value for command"))?;
        if self.operand(depth)?.is_some() {
            return Err(error("a value takes no arguments"));
        }
        Ok(Command::Operand(operand))
    }

    /// The next operand, if what comes next is one.
    fn operand(&mut self, depth: usize) -> Result<Option<Operand>, TemplateError> {
        let operand = match self.tokens.get(self.at) {
            Some(Token::Field(path)) => Operand::Field(path.clone()),
            Some(Token::Root(path)) => Operand::Root(path.clone()),
            Some(Token::Literal(value)) => Operand::Literal(value.clone()),
            Some(Token::Open) => {
                self.at += 1;
                let inner = self.pipeline(depth + 1)?;
                let Some(Token::Close(path)) = self.tokens.get(self.at) else {
                    return Err(error("unclosed parenthesis"));
                };
                Operand::Nested(inner, path.clone())
            }
            Some(Token::Name(name)) => {
                return Err(error(format!("put {name:?} and its arguments in parentheses")));
            }
            Some(Token::Pipe | Token::Close(_)) | None => return Ok(None),
        };
        self.at += 1;
        Ok(Some(operand))
    }
}
