//! One client's connection: login, then one statement after the other.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use super::describe;
use super::login::{self, Encryption};
use super::packets::{self, ANSWER, ATTENTION, Answer, BATCH, LOGIN, PRELOGIN, RPC};
use super::rpc::{self, Parameter};
use super::server::{Login, ServerError, Shared};
use super::sql::{self, Token};
use super::store::{self, Store};
use super::tls::Channel;
use super::tokens::{self, DONE, DONE_COUNT, DONE_ERROR, DONE_IN_PROC, DONE_MORE, DONE_PROC};
use super::value::Value;

/// Talks to one client until it goes.
pub fn serve(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let cutter = stream.try_clone()?;
    let Some((PRELOGIN, message)) = packets::read_message(&mut stream)? else { return Ok(()) };
    let asked = login::asked(&message).ok_or(io::ErrorKind::InvalidData)?;
    let tls = shared.lock().tls.clone();
    let mut answer = Answer::new(&mut stream, ANSWER, 4096);
    answer.buffer().extend(login::prelogin_answer(tls.is_some(), asked));
    answer.finish()?;
    let encrypted = tls.is_some();
    let mut channel = match (tls, asked) {
        (Some(config), Encryption::Wanted) => Channel::encrypt(stream, config)?,
        // The server insists and the client cannot: SQL Server hangs up.
        (Some(_), Encryption::NotSupported) => return Ok(()),
        (None, _) => Channel::Bare(stream),
    };
    let Some((LOGIN, message)) = packets::read_message(&mut channel)? else { return Ok(()) };
    let asked = login::login(&message).ok_or(io::ErrorKind::InvalidData)?;
    let refused = shared.refuses(&asked);
    shared.lock().logins.push(Login {
        user: asked.user.clone(),
        database: asked.database.clone(),
        application: asked.application.clone(),
        read_only: asked.read_only,
        encrypted,
        refused: refused.is_some(),
    });
    let mut answer = Answer::new(&mut channel, ANSWER, 4096);
    if let Some(error) = refused {
        let out = answer.buffer();
        tokens::error(out, error.number, error.severity, &error.message);
        tokens::done(out, DONE, DONE_ERROR, 0);
        return answer.finish();
    }
    let out = answer.buffer();
    tokens::changed(out, 1, &asked.database, "master");
    tokens::collation(out);
    tokens::changed(out, 2, "us_english", "");
    tokens::login_accepted(out);
    let packet = asked.packet_bytes.to_string();
    tokens::changed(out, 4, &packet, "4096");
    tokens::done(out, DONE, 0, 0);
    answer.finish()?;
    let store = Store::open(&shared.path, &shared.clock);
    Session { channel, cutter, store, shared, packet_bytes: asked.packet_bytes }.run()
}

struct Session<'a> {
    channel: Channel,
    cutter: TcpStream,
    store: Store,
    shared: &'a Arc<Shared>,
    packet_bytes: usize,
}

/// Why an answer ended early.
enum Ended {
    Refused(ServerError),
    /// The client has gone, or the test had the connection cut.
    Gone(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Gone(error)
    }
}

impl From<String> for Ended {
    fn from(message: String) -> Ended {
        Ended::Refused(ServerError::new(50_000, 16, message))
    }
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        while let Some((kind, message)) = packets::read_message(&mut self.channel)? {
            match kind {
                BATCH => match rpc::batch(&message) {
                    Ok(text) => self.answer(&text, &[], DONE)?,
                    Err(problem) => self.refuse(&problem)?,
                },
                RPC => match rpc::call(&message) {
                    Ok(call) if call.procedure.eq_ignore_ascii_case("sp_executesql") => {
                        match call.parameters.as_slice() {
                            [Parameter { value: Value::Text(text), .. }, _, rest @ ..] => {
                                self.answer(text, rest, DONE_IN_PROC)?;
                            }
                            _ => self.refuse("sp_executesql needs a statement")?,
                        }
                    }
                    Ok(call) => {
                        let name = call.procedure;
                        self.refuse(&format!("Could not find stored procedure '{name}'."))?;
                    }
                    Err(problem) => self.refuse(&problem)?,
                },
                ATTENTION => {
                    let mut answer = Answer::new(&mut self.channel, ANSWER, self.packet_bytes);
                    tokens::done(answer.buffer(), DONE, tokens::DONE_ATTENTION, 0);
                    answer.finish()?;
                }
                other => {
                    return Err(io::Error::other(format!("a message of kind {other:#x}")));
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, problem: &str) -> io::Result<()> {
        let mut answer = Answer::new(&mut self.channel, ANSWER, self.packet_bytes);
        tokens::error(answer.buffer(), 2812, 16, problem);
        tokens::done(answer.buffer(), DONE, DONE_ERROR, 0);
        answer.finish()
    }

    /// Runs every statement of `text` and answers with the results.
    fn answer(&mut self, text: &str, parameters: &[Parameter], done: u8) -> io::Result<()> {
        let delay = self.shared.lock().delay;
        std::thread::sleep(delay);
        let mut answer = Answer::new(&mut self.channel, ANSWER, self.packet_bytes);
        let mut run = Run { store: &self.store, shared: self.shared, parameters, done };
        let ended = run.batch(text, &mut answer);
        match ended {
            Ok(()) => {}
            Err(Ended::Refused(error)) => {
                let out = answer.buffer();
                tokens::error(out, error.number, error.severity, &error.message);
                tokens::done(out, done, DONE_ERROR | (DONE_MORE * u16::from(done != DONE)), 0);
            }
            Err(Ended::Gone(error)) => {
                answer.cut()?;
                self.cutter.shutdown(Shutdown::Both)?;
                return Err(error);
            }
        }
        if done == DONE_IN_PROC {
            tokens::return_status(answer.buffer(), 0);
            tokens::done(answer.buffer(), DONE_PROC, 0, 0);
        }
        answer.finish()
    }
}

/// A batch that is being run.
struct Run<'a> {
    store: &'a Store,
    shared: &'a Arc<Shared>,
    parameters: &'a [Parameter],
    done: u8,
}

impl Run<'_> {
    fn batch<S: Write>(&mut self, text: &str, answer: &mut Answer<'_, S>) -> Result<(), Ended> {
        if let Some(error) = self.shared.planned_error(text) {
            return Err(Ended::Refused(error));
        }
        let all = sql::tokens(text).map_err(|problem| refused(102, problem))?;
        let mut statements = sql::split(&all, ";");
        statements.retain(|statement| !statement.is_empty());
        let last = statements.len().saturating_sub(1);
        for (place, statement) in statements.into_iter().enumerate() {
            let more = if place < last || self.done == DONE_IN_PROC { DONE_MORE } else { 0 };
            self.statement(text, statement, answer, more)?;
        }
        Ok(())
    }

    fn statement<S: Write>(
        &mut self,
        text: &str,
        statement: &[Token],
        answer: &mut Answer<'_, S>,
        more: u16,
    ) -> Result<(), Ended> {
        if statement[0].is("SET") {
            tokens::done(answer.buffer(), self.done, more, 0);
            return Ok(());
        }
        if statement[0].is("USE") {
            if let Some(Token::Word(name) | Token::Name(name)) = statement.get(1) {
                tokens::changed(answer.buffer(), 1, name, "");
            }
            tokens::done(answer.buffer(), self.done, more, 0);
            return Ok(());
        }
        if statement[0].is("CREATE") && statement.get(1).is_some_and(|token| token.is("TABLE")) {
            self.store.create_table(statement)?;
            tokens::done(answer.buffer(), self.done, more, 0);
            return Ok(());
        }
        self.describe(statement)?;
        let translated = self.store.translate(statement, self.parameters)?;
        let prepared = self.store.connection.prepare(&translated.sql);
        let mut prepared = prepared.map_err(|error| sqlite(&error))?;
        if prepared.column_count() == 0 {
            let changed =
                prepared.execute(self.bound(&prepared)).map_err(|error| sqlite(&error))?;
            tokens::done(answer.buffer(), self.done, DONE_COUNT | more, changed as u64);
            return Ok(());
        }
        let columns = store::result_columns(&prepared, &translated)?;
        tokens::columns(answer.buffer(), &columns)?;
        let logged = self.shared.log(text);
        let bound = self.bound(&prepared);
        let mut rows = prepared.query(bound).map_err(|error| sqlite(&error))?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(|error| sqlite(&error))? {
            let values = (0..columns.len()).map(|place| {
                Ok(Value::from_stored(row.get_ref(place).map_err(|error| error.to_string())?))
            });
            let values = values.collect::<Result<Vec<Value>, String>>()?;
            tokens::row(answer.buffer(), &columns, &values)?;
            answer.flow()?;
            count += 1;
            self.shared.count_row(logged);
            if self.shared.cuts() {
                return Err(Ended::Gone(io::Error::other("cut, as the test wants it")));
            }
        }
        tokens::done(answer.buffer(), self.done, DONE_COUNT | more, count);
        Ok(())
    }

    /// Prepares the table of descriptions, if the statement reads it.
    fn describe(&self, statement: &[Token]) -> Result<(), Ended> {
        let described = match describe::asked(statement) {
            Some(Token::Text(text)) => text.clone(),
            Some(Token::Parameter(name)) => {
                let own = self.parameters.iter().find(|one| one.name.eq_ignore_ascii_case(name));
                match own.map(|one| &one.value) {
                    Some(Value::Text(text)) => text.clone(),
                    _ => return Err(refused(137, format!("{name} is no statement"))),
                }
            }
            _ => return Ok(()),
        };
        Ok(describe::describe(self.store, &described)?)
    }

    /// The parameters that the statement uses: SQLite numbers them up to the highest.
    fn bound(&self, statement: &rusqlite::Statement<'_>) -> rusqlite::ParamsFromIter<Vec<Value>> {
        let used = self.parameters.iter().take(statement.parameter_count());
        rusqlite::params_from_iter(used.map(|one| one.value.clone()).collect())
    }
}

fn refused(number: u32, message: String) -> Ended {
    Ended::Refused(ServerError::new(number, 16, message))
}

fn sqlite(error: &rusqlite::Error) -> Ended {
    let (number, severity, message) = server_words(error);
    Ended::Refused(ServerError::new(number, severity, message))
}

/// What SQL Server would say to it.
pub fn server_words(error: &rusqlite::Error) -> (u32, u8, String) {
    let text = error.to_string();
    let after = |mark: &str| {
        let (_, rest) = text.split_once(mark)?;
        Some(rest.split([' ', ';']).next().unwrap_or(rest).to_owned())
    };
    if let Some(table) = after("no such table: ") {
        (208, 16, format!("Invalid object name '{}'.", table.trim_start_matches("main.")))
    } else if let Some(column) = after("no such column: ") {
        (207, 16, format!("Invalid column name '{column}'."))
    } else if text.contains("syntax error") {
        (102, 15, format!("Incorrect syntax: {text}"))
    } else if text.contains("Conversion failed") {
        (241, 16, text)
    } else {
        (50_000, 16, text)
    }
}
