//! Drives an import: submits its units in order, without waiting for each, and takes the answers as they come.

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use daybook_domain::DomainError;
use daybook_projections::Schema;
use tokio::sync::oneshot;

use super::{
    ImportError, ImportOptions, ImportSummary, Progress,
    commands::{Commands, Setup, step_key},
    hotel_demand::{self, History},
    identity::ImportId,
    plan::{self, Planned, Step},
    pools, report,
    resume::{self, Answers},
    source,
    tally::{Next, Tally},
};
use crate::eventstore::{Committed, EventStore, StoreError, StoreSettings};

/// How many units are on their way at once: enough to fill the next batch while one is written.
const WINDOW: usize = 2_000;
/// Progress is told once in so many steps.
const TELL_EVERY: u64 = 256;

/// Sizes of the write path that suit an import: larger batches, and room for all that is on its way.
pub fn store_settings() -> StoreSettings {
    StoreSettings { max_batch: 512, queue: WINDOW, ..StoreSettings::default() }
}

/// Imports a file into a tenant's log.
///
/// The units are decided in the order of the plan. Dropping the future stops the import; run again with the same
/// options it goes on where it was.
///
/// # Errors
/// When the file is not of the format (nothing is written then), or the store or the report fails.
pub async fn run(
    store: &EventStore,
    schema: &Schema,
    options: ImportOptions,
    progress: impl Fn(Progress),
) -> Result<ImportSummary, ImportError> {
    let started = Instant::now();
    let path = options.report.clone().unwrap_or_else(|| report::default_path(&options.file));
    let log = schema.name().to_owned();
    let prepared = tokio::task::spawn_blocking(move || Prepared::new(&options, &log))
        .await
        .map_err(ImportError::Interrupted)??;
    let answers = resume::answers(store, schema, &prepared.import).await.map_err(ImportError::Resume)?;

    let commands = Commands::new(&prepared.import, &prepared.history);
    let mut driver = Driver {
        store,
        schema,
        prepared: &prepared,
        commands: &commands,
        answers,
        window: VecDeque::with_capacity(WINDOW),
        tally: Tally::new(&prepared.history),
        done: 0,
        progress,
    };
    driver.make_what_is_booked().await?;
    for planned in &prepared.steps {
        driver.step(*planned).await?;
    }
    driver.drain(0).await?;
    driver.tell();
    driver.tally.summary.import_id = prepared.import.id().to_string();
    finish(driver.tally, &path, started.elapsed())
}

fn finish(mut tally: Tally, path: &Path, took: Duration) -> Result<ImportSummary, ImportError> {
    report::write(path, &mut tally.refusals)
        .map_err(|source| ImportError::Report { path: path.to_owned(), source })?;
    let mut summary = tally.summary;
    summary.report = path.to_owned();
    summary.seconds = took.as_secs_f64();
    summary.rows_per_second = if summary.seconds > 0.0 { summary.rows as f64 / summary.seconds } else { 0.0 };
    Ok(summary)
}

/// All that is known before the first command.
struct Prepared {
    import: ImportId,
    history: History,
    steps: Vec<Planned>,
    capacities: Vec<u32>,
}

impl Prepared {
    fn new(options: &ImportOptions, log: &str) -> Result<Self, ImportError> {
        let file = || options.file.clone();
        let text =
            source::read(&options.file).map_err(|source| ImportError::Read { path: file(), source })?;
        let history = hotel_demand::parse(&text, options.limit)
            .map_err(|source| ImportError::Parse { path: file(), source })?;
        let steps = plan::plan(&history.rows);
        let capacities = pools::capacities(&history, &steps, options.pools);
        let import = ImportId::new(&text, log, options.pools, options.limit);
        Ok(Self { import, history, steps, capacities })
    }
}

type Answer = oneshot::Receiver<Result<Committed, StoreError>>;

struct Driver<'a, F> {
    store: &'a EventStore,
    schema: &'a Schema,
    prepared: &'a Prepared,
    commands: &'a Commands<'a>,
    answers: Answers,
    window: VecDeque<(Planned, Answer)>,
    tally: Tally,
    done: u64,
    progress: F,
}

impl<F: Fn(Progress)> Driver<'_, F> {
    /// Pools, offerings and customers, all of them before the first booking.
    async fn make_what_is_booked(&mut self) -> Result<(), ImportError> {
        let Some(first) = self.prepared.steps.first() else { return Ok(()) };
        let setup = self
            .commands
            .setup(&self.prepared.capacities, first.day)
            .map_err(|error| ImportError::Setup { what: "the pools".to_owned(), source: error.into() })?;
        let mut waiting = Vec::with_capacity(setup.len());
        for Setup { what, unit } in setup {
            let failed = |what: &str, source| ImportError::Setup { what: what.to_owned(), source };
            let key = unit.idempotency.as_ref().map(|key| key.key.clone()).unwrap_or_default();
            match self.answers.remove(&key) {
                Some(None) => self.tally.summary.resumed += 1,
                Some(Some(error)) => {
                    return Err(failed(&what, StoreError::Refused { error, replayed: true }));
                }
                None => {
                    let answer =
                        self.store.submit(self.schema, unit).await.map_err(|source| failed(&what, source))?;
                    waiting.push((what, answer));
                }
            }
        }
        for (what, answer) in waiting {
            match answer.await.unwrap_or(Err(StoreError::ShuttingDown)) {
                Ok(committed) => self.count(&committed),
                Err(StoreError::Refused { error: DomainError::AlreadyExists { .. }, replayed: false }) => {
                    return Err(ImportError::Expired);
                }
                Err(source) => return Err(ImportError::Setup { what, source }),
            }
        }
        Ok(())
    }

    /// Takes the answer an earlier run got to a step, or submits it.
    async fn step(&mut self, planned: Planned) -> Result<(), ImportError> {
        if self.tally.is_refused(planned.row) {
            self.stepped();
            return Ok(());
        }
        if let Some(refusal) = self.answers.remove(&self.key(planned, false)) {
            // In the order of the plan: what is on its way comes before.
            self.drain(0).await?;
            self.tally.summary.resumed += 1;
            return self.settle(planned, refusal, false).await;
        }
        match self.commands.step(planned, false) {
            Ok(unit) => {
                let submitted = self.store.submit(self.schema, unit).await;
                let answer = submitted.map_err(|source| self.failed(planned, source))?;
                self.window.push_back((planned, answer));
                self.drain(WINDOW - 1).await
            }
            // Nights the domain has no value for; there is nothing to ask.
            Err(error) => self.settle(planned, Some(error), true).await,
        }
    }

    /// Takes answers until at most `most` are outstanding.
    async fn drain(&mut self, most: usize) -> Result<(), ImportError> {
        while self.window.len() > most {
            let Some((planned, answer)) = self.window.pop_front() else { break };
            let (refusal, fresh) = self.outcome(planned, answer).await?;
            self.settle(planned, refusal, fresh).await?;
        }
        Ok(())
    }

    async fn settle(
        &mut self,
        planned: Planned,
        refusal: Option<DomainError>,
        fresh: bool,
    ) -> Result<(), ImportError> {
        self.stepped();
        let row = &self.prepared.history.rows[planned.row];
        match self.tally.answer(row, planned, refusal.as_ref(), fresh) {
            Next::Settled => Ok(()),
            Next::Again => self.again(planned).await,
            Next::Expired => Err(ImportError::Expired),
        }
    }

    /// Asks a step again, under another key, as the first holds the refusal.
    async fn again(&mut self, planned: Planned) -> Result<(), ImportError> {
        let refusal = match self.answers.remove(&self.key(planned, true)) {
            Some(refusal) => refusal,
            None => {
                let unit = match self.commands.step(planned, true) {
                    Ok(unit) => unit,
                    Err(error) => return Err(self.failed(planned, error.into())),
                };
                let submitted = self.store.submit(self.schema, unit).await;
                let answer = submitted.map_err(|source| self.failed(planned, source))?;
                self.outcome(planned, answer).await?.0
            }
        };
        if let Some(error) = refusal {
            let row = &self.prepared.history.rows[planned.row];
            self.tally.refuse_step(row, planned.step, &error);
        }
        Ok(())
    }

    /// The refusal in an answer, if it is one, and whether it was decided now.
    async fn outcome(
        &mut self,
        planned: Planned,
        answer: Answer,
    ) -> Result<(Option<DomainError>, bool), ImportError> {
        match answer.await.unwrap_or(Err(StoreError::ShuttingDown)) {
            Ok(committed) => {
                self.count(&committed);
                Ok((None, !committed.replayed))
            }
            Err(StoreError::Refused { error, replayed }) => Ok((Some(error), !replayed)),
            Err(source) => Err(self.failed(planned, source)),
        }
    }

    fn count(&mut self, committed: &Committed) {
        if committed.replayed {
            self.tally.summary.resumed += 1;
        } else {
            let written = committed.last_position - committed.first_position + 1;
            self.tally.summary.events += u64::try_from(written).unwrap_or(0);
        }
    }

    fn key(&self, planned: Planned, again: bool) -> String {
        step_key(self.prepared.history.rows[planned.row].line, planned.step, again)
    }

    fn failed(&self, planned: Planned, source: StoreError) -> ImportError {
        let line = self.prepared.history.rows[planned.row].line;
        ImportError::Step { line, step: Step::as_str(planned.step), source }
    }

    fn stepped(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(TELL_EVERY) {
            self.tell();
        }
    }

    fn tell(&self) {
        (self.progress)(Progress {
            done: self.done,
            total: self.prepared.steps.len() as u64,
            accepted: self.tally.summary.accepted,
            refused: self.tally.refused(),
        });
    }
}
