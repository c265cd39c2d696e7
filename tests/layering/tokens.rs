//! Just enough of Rust's lexical structure to tell code from comments and text.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

impl Token {
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(have) if have == word)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The tokens of a file without comments, literals and white space.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        at = step(&text, at, &mut found);
    }
    found
}

fn step(text: &[char], at: usize, found: &mut Vec<Token>) -> usize {
    let rest = &text[at..];
    match rest {
        ['/', '/', ..] => at + rest.iter().take_while(|c| **c != '\n').count(),
        ['/', '*', ..] => at + comment(rest),
        ['"', ..] => at + string(rest),
        ['b' | 'c', '"', ..] => at + 1 + string(&rest[1..]),
        ['r', '"' | '#', ..] if raw(rest).is_some() => at + raw(rest).unwrap(),
        ['b' | 'c', 'r', '"' | '#', ..] if raw(&rest[1..]).is_some() => at + 1 + raw(&rest[1..]).unwrap(),
        ['\'', ..] => at + quote(rest),
        [':', ':', ..] => {
            found.push(Token::Path);
            at + 2
        }
        [first, ..] if first.is_alphanumeric() || *first == '_' => {
            let word: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            let len = word.chars().count();
            found.push(Token::Word(word));
            at + len
        }
        [space, ..] if space.is_whitespace() => at + 1,
        [mark, ..] => {
            found.push(Token::Mark(*mark));
            at + 1
        }
        [] => at,
    }
}

/// The length of a block comment; they nest.
fn comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// The length of a string that begins with its quote.
fn string(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw string that begins with its `r`; `None` for a raw identifier.
fn raw(text: &[char]) -> Option<usize> {
    let hashes = text[1..].iter().take_while(|c| **c == '#').count();
    if text.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.resize(hashes + 1, '#');
    let body = &text[2 + hashes..];
    let len = body.windows(end.len()).position(|window| window == end)?;
    Some(2 + hashes + len + end.len())
}

/// The length of a character literal, or of the quote of a lifetime.
fn quote(text: &[char]) -> usize {
    match text {
        ['\'', '\\', ..] => 2 + text[2..].iter().skip(1).take_while(|c| **c != '\'').count() + 2,
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

#[test]
fn only_code_is_left() {
    let words = |text| tokens(text).iter().filter_map(|token| token.word().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(words("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
    assert_eq!(words(r#"a("b \" c", 'd', '\'', b"e", r"f\") g::<'h>()"#), ["a", "g", "h"]);
    assert_eq!(words("r#\"a \" b\"# c br##\"\"# d\"##"), ["c"]);
    assert_eq!(words("'\\n' a '\\u{1f}' b"), ["a", "b"]);
}
