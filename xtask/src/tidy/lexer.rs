//! Tells code, comments and string literals of Rust apart, as far as the rules need it.

/// A Rust file taken apart. Lines are counted from 0.
#[derive(Debug, Default)]
pub(crate) struct Lexed {
    /// The lines with comments, strings and characters blanked.
    pub(crate) code: Vec<String>,
    /// The text of comments, by line.
    pub(crate) comments: Vec<(usize, String)>,
    /// String literals, by the line on which they begin.
    pub(crate) literals: Vec<(usize, String)>,
    /// Whether each line belongs to a module or function that exists in tests only.
    pub(crate) test: Vec<bool>,
}

/// Takes a file apart.
pub(crate) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        line: 0,
        code: String::new(),
        lexed: Lexed::default(),
    };
    lexer.run();
    let code: Vec<String> = lexer.code.split('\n').map(str::to_owned).collect();
    let test = test_lines(&code);
    Lexed {
        code,
        test,
        ..lexer.lexed
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    lexed: Lexed,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Takes one character; in the code it is kept or blanked.
    fn take(&mut self, keep: bool) -> char {
        let c = self.peek(0);
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        self.code.push(if keep || c == '\n' { c } else { ' ' });
        c
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            self.take(false);
        }
    }

    fn run(&mut self) {
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => self.line_comment(),
                ('/', '*') => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.character(),
                (c, _) if c.is_alphabetic() || c == '_' => self.word(),
                _ => {
                    self.take(true);
                }
            }
        }
    }

    fn line_comment(&mut self) {
        let (line, mut text) = (self.line, String::new());
        while self.at < self.chars.len() && self.peek(0) != '\n' {
            text.push(self.take(false));
        }
        self.lexed.comments.push((line, text));
    }

    fn block_comment(&mut self) {
        let (line, mut text, mut depth) = (self.line, String::new(), 0usize);
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    text.push(self.take(false));
                    continue;
                }
            }
            text.push(self.take(false));
            text.push(self.take(false));
            if depth == 0 {
                break;
            }
        }
        self.lexed.comments.push((line, text));
    }

    fn string(&mut self) {
        let (line, mut text) = (self.line, String::new());
        self.take(false);
        while self.at < self.chars.len() {
            match self.take(false) {
                '"' => break,
                '\\' => {
                    text.push('\\');
                    text.push(self.take(false));
                }
                c => text.push(c),
            }
        }
        self.lexed.literals.push((line, text));
    }

    /// A character literal; a lifetime is code.
    fn character(&mut self) {
        if self.peek(1) == '\\' {
            self.take(false);
            self.take(false);
            self.take(false);
            while self.at < self.chars.len() && self.take(false) != '\'' {}
        } else if self.peek(2) == '\'' {
            self.blank(3);
        } else {
            self.take(true);
        }
    }

    /// A word of code, or the prefix of a raw string.
    fn word(&mut self) {
        let mut word = String::new();
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            word.push(self.take(true));
        }
        if !matches!(word.as_str(), "r" | "br" | "cr") {
            return;
        }
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) != '"' {
            return;
        }
        let (line, mut text) = (self.line, String::new());
        self.blank(hashes + 1);
        let end: String = format!("\"{}", "#".repeat(hashes));
        while self.at < self.chars.len() {
            let ends = end.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == c);
            if ends {
                self.blank(end.len());
                break;
            }
            text.push(self.take(false));
        }
        self.lexed.literals.push((line, text));
    }
}

/// Marks the lines of every item that follows `#[cfg(test)]` or `#[test]`, up to its closing brace or semicolon.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut test = vec![false; code.len()];
    let mut line = 0;
    while line < code.len() {
        let compact: String = code[line].chars().filter(|c| !c.is_whitespace()).collect();
        let begins = ["#[cfg(test)]", "#[test]", "#[tokio::test"]
            .iter()
            .any(|mark| compact.starts_with(mark));
        if !begins {
            line += 1;
            continue;
        }
        let mut depth = 0usize;
        let mut opened = false;
        'item: while line < code.len() {
            test[line] = true;
            for c in code[line].chars() {
                match c {
                    '{' => {
                        depth += 1;
                        opened = true;
                    }
                    '}' => depth = depth.saturating_sub(1),
                    ';' if !opened => break 'item,
                    _ => {}
                }
                if opened && depth == 0 {
                    break 'item;
                }
            }
            line += 1;
        }
        line += 1;
    }
    test
}

/// Whether a line of code has this word, not as a part of another one.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_lifetimes_are_told_apart() {
        let lexed = lex(
            "let a = \"unsafe // x\"; // unsafe\nlet b = r#\"un\"safe\"#; /* unsafe /* */ */ fn c<'a>() { '\\'' ; '\"'; }\n",
        );
        assert!(
            lexed.code.iter().all(|line| !has_word(line, "unsafe")),
            "{:?}",
            lexed.code
        );
        assert!(has_word(&lexed.code[1], "fn") && lexed.code[1].contains("<'a>"));
        assert_eq!(
            lexed.literals,
            [(0, "unsafe // x".to_owned()), (1, "un\"safe".to_owned())]
        );
        assert_eq!(lexed.comments.len(), 2);
        assert!(!has_word("unsafe_code", "unsafe"));
    }

    #[test]
    fn test_items_end_with_their_brace_or_semicolon() {
        let lexed = lex(
            "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\n  fn c() { }\n}\nfn d() {}\n",
        );
        let marked: Vec<usize> = (0..lexed.test.len()).filter(|line| lexed.test[*line]).collect();
        assert_eq!(marked, [1, 2, 4, 5, 6, 7]);
    }
}
