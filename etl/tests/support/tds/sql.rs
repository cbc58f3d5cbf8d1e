//! The T-SQL that pipelines send, turned into SQLite's. What is not known here is refused.

use std::collections::HashMap;

use super::rpc::Parameter;
use super::sqltype::SqlType;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(String),
    /// `[name]` or `"name"`.
    Name(String),
    Text(String),
    Number(String),
    /// `@P1`, with the sign.
    Parameter(String),
    Sign(&'static str),
}

const SIGNS: [&str; 20] = [
    "<>", "<=", ">=", "!=", "(", ")", ",", ".", ";", "=", "<", ">", "+", "-", "*", "/", "%", "&",
    "|", "~",
];

/// Words that may stand before a bracket without being a function.
const PLAIN: [&str; 18] = [
    "IN", "AND", "OR", "NOT", "WHERE", "FROM", "ON", "EXISTS", "AS", "VALUES", "BY", "BETWEEN",
    "SELECT", "JOIN", "KEY", "UNIQUE", "TABLE", "INTO",
];
/// Functions that mean the same in SQLite.
const SHARED: [&str; 7] = ["COUNT", "MIN", "MAX", "COALESCE", "ABS", "NULLIF", "SUM"];

pub fn tokens(sql: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let wordy = |one: char| one.is_alphanumeric() || matches!(one, '_' | '#' | '$' | '@');
        let taken = if first == '[' || first == '"' {
            let (name, taken) = quoted(rest, if first == '[' { ']' } else { '"' })?;
            tokens.push(Token::Name(name));
            taken
        } else if first == '\'' || rest.starts_with("N'") || rest.starts_with("n'") {
            let prefix = usize::from(first != '\'');
            let (text, taken) = quoted(&rest[prefix..], '\'')?;
            tokens.push(Token::Text(text));
            taken + prefix
        } else if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first.is_ascii_digit() {
            let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.');
            let taken = end.unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..taken].to_owned()));
            taken
        } else if wordy(first) {
            let taken = rest.find(|one: char| !wordy(one)).unwrap_or(rest.len());
            let word = rest[..taken].to_owned();
            tokens.push(match first {
                '@' if !word.starts_with("@@") => Token::Parameter(word),
                _ => Token::Word(word),
            });
            taken
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("Incorrect syntax near '{first}'."))?;
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[taken..].trim_start();
    }
    Ok(tokens)
}

/// The content between the first character and its partner, which is doubled inside.
fn quoted(text: &str, end: char) -> Result<(String, usize), String> {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((place, one)) = characters.next() {
        if one != end {
            content.push(one);
        } else if characters.peek().is_some_and(|(_, next)| *next == end) {
            content.push(end);
            characters.next();
        } else {
            return Ok((content, place + end.len_utf8()));
        }
    }
    Err("Unclosed quotation mark.".to_owned())
}

impl Token {
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Name(name) => Some(name),
            _ => None,
        }
    }

    /// As T-SQL and SQLite both write it.
    fn plain(&self) -> String {
        match self {
            Token::Word(word) | Token::Number(word) => word.clone(),
            Token::Name(name) => format!("\"{}\"", name.replace('"', "\"\"")),
            Token::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Token::Parameter(name) => name.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// The place of the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token], open: usize) -> Result<usize, String> {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") if depth == 1 => return Ok(place),
            Token::Sign(")") => depth -= 1,
            _ => {}
        }
    }
    Err("Incorrect syntax: a bracket is not closed.".to_owned())
}

/// Parts at the signs `separator` that are in no bracket.
pub fn split<'a>(tokens: &'a [Token], separator: &str) -> Vec<&'a [Token]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => depth -= 1,
            Token::Sign(sign) if depth == 0 && *sign == separator => {
                parts.push(&tokens[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

/// A statement for SQLite, and the types of computed columns by their names and places.
#[derive(Debug, Default)]
pub struct Translated {
    pub sql: String,
    pub by_name: HashMap<String, SqlType>,
    pub by_place: Vec<Option<SqlType>>,
}

/// Translates one statement. `column` knows the types of the tables' columns.
pub struct Translator<'a> {
    pub parameters: &'a [Parameter],
    pub column: &'a dyn Fn(&str) -> Option<SqlType>,
    by_name: HashMap<String, SqlType>,
}

impl<'a> Translator<'a> {
    pub fn new(parameters: &'a [Parameter], column: &'a dyn Fn(&str) -> Option<SqlType>) -> Self {
        Translator { parameters, column, by_name: HashMap::new() }
    }

    pub fn statement(mut self, tokens: &[Token]) -> Result<Translated, String> {
        let sql = self.expression(tokens)?;
        let by_place = self.select_list(tokens);
        Ok(Translated { sql, by_name: self.by_name, by_place })
    }

    /// The types of the outermost select list, where they can be seen.
    fn select_list(&self, tokens: &[Token]) -> Vec<Option<SqlType>> {
        let Some(mut start) = tokens.iter().position(|token| token.is("SELECT")) else {
            return Vec::new();
        };
        start += 1;
        if tokens.get(start).is_some_and(|token| token.is("TOP")) {
            start = after_top(tokens, start).unwrap_or(tokens.len());
        }
        let rest = &tokens[start.min(tokens.len())..];
        let (mut depth, mut end) = (0, rest.len());
        for (place, token) in rest.iter().enumerate() {
            match token {
                Token::Sign("(") => depth += 1,
                Token::Sign(")") => depth -= 1,
                token if depth == 0 && token.is("FROM") => {
                    end = place;
                    break;
                }
                _ => {}
            }
        }
        let items = split(&rest[..end], ",");
        if items.iter().any(|item| item.last() == Some(&Token::Sign("*"))) {
            return Vec::new();
        }
        items.into_iter().map(|item| self.item_type(item)).collect()
    }

    fn item_type(&self, item: &[Token]) -> Option<SqlType> {
        match item {
            [first, Token::Sign("("), ..] => {
                let inside = &item[2..closing(item, 1).ok()?];
                self.function_type(first.name()?, inside)
            }
            [Token::Number(number), ..] if !number.contains('.') => Some(SqlType::Int),
            [Token::Text(text), ..] => Some(SqlType::NVarChar(text.len().max(1) as u16)),
            [Token::Parameter(name), ..] => Some(self.parameter(name).ok()?.1.ty.clone()),
            _ => None,
        }
    }

    fn function_type(&self, name: &str, inside: &[Token]) -> Option<SqlType> {
        match name.to_uppercase().as_str() {
            "CAST" => cast_parts(inside).ok().map(|(_, ty)| ty),
            "CONVERT" => converted(split(inside, ",").first()?).ok(),
            "COUNT" => Some(SqlType::Int),
            "COUNT_BIG" => Some(SqlType::BigInt),
            "MIN" | "MAX" => (self.column)(inside.last()?.name()?),
            "DATEADD" => self.item_type(split(inside, ",").get(2)?),
            clock => clock_type(clock).and_then(|ty| SqlType::parse(ty).ok()),
        }
    }

    fn parameter(&self, name: &str) -> Result<(usize, &Parameter), String> {
        let found =
            self.parameters.iter().enumerate().find(|(_, one)| one.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("Must declare the scalar variable \"{name}\"."))
    }

    fn expression(&mut self, tokens: &[Token]) -> Result<String, String> {
        let mut out: Vec<String> = Vec::new();
        let mut limits: Vec<Option<String>> = vec![None];
        let mut place = 0;
        while place < tokens.len() {
            let token = &tokens[place];
            let opens = tokens.get(place + 1) == Some(&Token::Sign("("));
            match token {
                Token::Sign("(") => limits.push(None),
                Token::Sign(")") => {
                    if let Some(limit) = limits.pop().flatten() {
                        out.push(format!("LIMIT {limit}"));
                    }
                }
                token if token.is("TOP") => {
                    let end = after_top(tokens, place)?;
                    let limit = self.expression(&tokens[place + 1..end])?;
                    *limits.last_mut().ok_or("unbalanced brackets")? = Some(limit);
                    place = end;
                    continue;
                }
                token if token.is("COLLATE") => {
                    place += 2;
                    continue;
                }
                token if opens && (token.is("WITH") || token.is("OPTION")) => {
                    place = closing(tokens, place + 1)? + 1;
                    continue;
                }
                token if is_schema(token) && tokens.get(place + 1) == Some(&Token::Sign(".")) => {
                    let table = tokens.get(place + 2).and_then(Token::name).unwrap_or_default();
                    out.push(match token.name().unwrap_or_default() {
                        name if name.eq_ignore_ascii_case("dbo") => format!("\"{table}\""),
                        name => format!("\"{}_{}\"", name.to_lowercase(), table.to_lowercase()),
                    });
                    place += 3;
                    // A table function was run before and stands there as a table.
                    if tokens.get(place) == Some(&Token::Sign("(")) {
                        place = closing(tokens, place)? + 1;
                    }
                    continue;
                }
                Token::Word(word) if opens && !is_any(&PLAIN, word) => {
                    let end = closing(tokens, place + 1)?;
                    let text = self.function(word, &tokens[place + 2..end])?;
                    self.note_alias(word, &tokens[place + 2..end], &tokens[end + 1..]);
                    self.check(tokens, place, &tokens[place..=end])?;
                    out.push(text);
                    place = end + 1;
                    continue;
                }
                Token::Parameter(name) => {
                    out.push(self.bare_parameter(tokens, place, name)?);
                    place += 1;
                    continue;
                }
                _ => {}
            }
            out.push(token.plain());
            place += 1;
        }
        if let Some(limit) = limits.pop().flatten() {
            out.push(format!("LIMIT {limit}"));
        }
        Ok(out.join(" "))
    }

    /// Remembers what type a computed column has that is called by a name further out.
    fn note_alias(&mut self, function: &str, inside: &[Token], behind: &[Token]) {
        let alias = match behind {
            [word, alias, ..] if word.is("AS") => alias.name(),
            [Token::Name(alias), ..] => Some(alias.as_str()),
            _ => None,
        };
        if let (Some(alias), Some(ty)) = (alias, self.function_type(function, inside)) {
            self.by_name.insert(alias.to_lowercase(), ty);
        }
    }

    fn function(&mut self, name: &str, inside: &[Token]) -> Result<String, String> {
        let upper = name.to_uppercase();
        if let Some(ty) = clock_type(&upper) {
            return Ok(format!("tds_now('{ty}')"));
        }
        match upper.as_str() {
            "CAST" => {
                let (expression, ty) = cast_parts(inside)?;
                let collation = match expression {
                    [.., collate, name] if collate.is("COLLATE") => {
                        format!(" COLLATE {}", name.name().unwrap_or_default())
                    }
                    _ => String::new(),
                };
                // A parameter is cast as it is, whatever it is compared with.
                let inner = match expression {
                    [Token::Parameter(name), ..] => self.numbered(name)?,
                    other => self.expression(other)?,
                };
                Ok(format!("tds_cast({inner}, '{ty}{collation}')"))
            }
            "CONVERT" => {
                let parts = split(inside, ",");
                let [ty, value, [Token::Number(style)]] = parts.as_slice() else {
                    return Err("CONVERT is known with a style only.".to_owned());
                };
                // Style 2 of a binary type: hexadecimal digits.
                match (converted(ty)?, style.as_str()) {
                    (ty @ (SqlType::Binary(_) | SqlType::VarBinary(_)), "2") => {
                        Ok(format!("tds_cast({}, '{ty}')", self.expression(value)?))
                    }
                    _ => Err("CONVERT is known with style 2 only.".to_owned()),
                }
            }
            "DATEADD" => {
                let parts = split(inside, ",");
                let [unit, count, moment] = parts.as_slice() else {
                    return Err("DATEADD takes three arguments.".to_owned());
                };
                let unit = unit.first().and_then(Token::name).unwrap_or_default();
                let (count, moment) = (self.expression(count)?, self.expression(moment)?);
                Ok(format!("tds_dateadd('{unit}', {count}, {moment})"))
            }
            "OBJECT_ID" => Ok(format!("tds_object_id({})", self.expression(inside)?)),
            "SERVERPROPERTY" => Ok("'16.0.4000.1'".to_owned()),
            "COUNT_BIG" => Ok(format!("count({})", self.expression(inside)?)),
            shared if SHARED.contains(&shared) => {
                Ok(format!("{shared}({})", self.expression(inside)?))
            }
            _ => Err(format!("'{name}' is not a recognized built-in function name.")),
        }
    }

    fn numbered(&self, name: &str) -> Result<String, String> {
        Ok(format!("?{}", self.parameter(name)?.0 + 1))
    }

    /// A parameter that stands alone is converted to the type of what it is compared with,
    /// where SQL Server would do so.
    fn bare_parameter(&self, tokens: &[Token], place: usize, name: &str) -> Result<String, String> {
        let numbered = self.numbered(name)?;
        let Some(column) = self.compared(tokens, place) else { return Ok(numbered) };
        let parameter = &self.parameter(name)?.1.ty;
        match parameter {
            same if alike(same, &column) => Ok(numbered),
            SqlType::NVarChar(_) => Ok(format!("tds_cast({numbered}, '{column}')")),
            other => Err(clash(other, &column)),
        }
    }

    /// Fails where a function's value is compared with a column of another kind.
    fn check(&self, tokens: &[Token], place: usize, call: &[Token]) -> Result<(), String> {
        match (self.compared(tokens, place), self.item_type(call)) {
            (Some(column), Some(value)) if !alike(&column, &value) => Err(clash(&value, &column)),
            _ => Ok(()),
        }
    }

    /// The type of the column left of the comparison before `place`.
    fn compared(&self, tokens: &[Token], place: usize) -> Option<SqlType> {
        let [.., column, Token::Sign("=" | "<" | ">" | "<=" | ">=" | "<>" | "!=")] =
            &tokens[..place]
        else {
            return None;
        };
        let name = column.name()?;
        let computed = self.by_name.get(&name.to_lowercase()).cloned();
        computed.or_else(|| (self.column)(name))
    }
}

fn clash(value: &SqlType, column: &SqlType) -> String {
    format!("the test server does not compare {value} with a column of type {column}: CAST it")
}

fn is_any(words: &[&str], word: &str) -> bool {
    words.iter().any(|one| one.eq_ignore_ascii_case(word))
}

fn is_schema(token: &Token) -> bool {
    token.name().is_some_and(|name| is_any(&["dbo", "sys", "INFORMATION_SCHEMA"], name))
}

/// Whether the two are stored so that they compare.
fn alike(one: &SqlType, other: &SqlType) -> bool {
    let kind = |ty: &SqlType| match ty {
        ty if ty.is_integer() => 1,
        ty if ty.is_text() => 2,
        SqlType::Decimal { .. } | SqlType::Money | SqlType::SmallMoney => 3,
        SqlType::Real | SqlType::Float => 4,
        SqlType::Date => 5,
        SqlType::Time(_) => 6,
        SqlType::DateTime | SqlType::SmallDateTime => 7,
        SqlType::DateTime2(_) => 8,
        SqlType::DateTimeOffset(_) => 9,
        SqlType::Guid => 10,
        _ => 11,
    };
    kind(one) == kind(other)
}

fn clock_type(function: &str) -> Option<&'static str> {
    Some(match function {
        "SYSUTCDATETIME" | "SYSDATETIME" => "datetime2(7)",
        "SYSDATETIMEOFFSET" => "datetimeoffset(7)",
        "GETUTCDATE" | "GETDATE" => "datetime",
        _ => return None,
    })
}

/// Where the number behind TOP ends.
fn after_top(tokens: &[Token], top: usize) -> Result<usize, String> {
    match tokens.get(top + 1) {
        Some(Token::Sign("(")) => Ok(closing(tokens, top + 1)? + 1),
        _ => Ok(top + 2),
    }
}

fn converted(ty: &[Token]) -> Result<SqlType, String> {
    SqlType::parse(&ty.iter().map(Token::plain).collect::<String>())
}

/// `expression AS type`.
fn cast_parts(inside: &[Token]) -> Result<(&[Token], SqlType), String> {
    let place = inside.iter().rposition(|token| token.is("AS"));
    let place = place.ok_or_else(|| "CAST needs AS.".to_owned())?;
    let ty: String = inside[place + 1..].iter().map(Token::plain).collect();
    Ok((&inside[..place], SqlType::parse(&ty.replace('"', ""))?))
}
