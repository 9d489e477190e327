//! The recorder that clients write to, from any number of tasks at once.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Counts, Event, History, Outcome, RecordView, Request, VaultLabel, check};

/// A history that is being recorded. Clones write to the same history.
///
/// The lock is held only while an event is appended, so asynchronous code may call it.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    events: Vec<Event>,
    operations: u64,
    faults: Vec<String>,
    file: Option<BufWriter<File>>,
    write_error: Option<io::Error>,
}

impl Recorder {
    /// A recorder that also writes each event to a new file.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = Some(BufWriter::new(File::create(path)?));
        Ok(Self(Arc::new(Mutex::new(Recorded { file, ..Recorded::default() }))))
    }

    /// Records that a request is about to be sent, and returns the number to pass to [`Self::end`].
    ///
    /// If it is never ended because its client was dropped, its outcome is unknown.
    pub fn begin(&self, vault: &VaultLabel, device: &Arc<str>, request: Request) -> u64 {
        self.with(|recorded| {
            let operation = recorded.operations;
            recorded.operations += 1;
            let (vault, device) = (vault.clone(), Arc::clone(device));
            recorded.append(Event::Begin { operation, vault, device, request });
            operation
        })
    }

    /// Records the outcome of a request.
    pub fn end(&self, operation: u64, outcome: Outcome) {
        self.with(|recorded| recorded.append(Event::End { operation, outcome }));
    }

    /// Records what a vault holds at the end.
    pub fn state(&self, vault: &VaultLabel, records: Vec<RecordView>) {
        let vault = vault.clone();
        self.with(|recorded| recorded.append(Event::State { vault, records }));
    }

    /// Notes a response that no server should give. It is no event: [`Self::verify`] reports it.
    pub fn fault(&self, fault: String) {
        self.with(|recorded| recorded.faults.push(fault));
    }

    /// The faults that were noted so far.
    pub fn faults(&self) -> Vec<String> {
        self.with(|recorded| recorded.faults.clone())
    }

    /// A copy of the events so far.
    pub fn events(&self) -> Vec<Event> {
        self.with(|recorded| recorded.events.clone())
    }

    /// Takes the events and flushes the file.
    ///
    /// # Errors
    ///
    /// The first error of writing to the file.
    pub fn finish(&self) -> io::Result<Vec<Event>> {
        self.with(|recorded| {
            if let Some(mut file) = recorded.file.take() {
                file.flush()?;
            }
            match recorded.write_error.take() {
                Some(error) => Err(error),
                None => Ok(std::mem::take(&mut recorded.events)),
            }
        })
    }

    /// Takes the history and checks it.
    ///
    /// # Errors
    ///
    /// Every fault that was noted, and every promise that was broken, in words.
    pub fn verify(&self) -> Result<Counts, Vec<String>> {
        let mut broken = self.faults();
        let checked = match self.finish() {
            Err(error) => Err(vec![format!("the history cannot be written: {error}")]),
            Ok(events) => match History::new(&events) {
                Err(malformed) => Err(vec![malformed.to_string()]),
                Ok(history) => check(&history)
                    .map_err(|violations| violations.iter().map(ToString::to_string).collect()),
            },
        };
        match checked {
            Ok(counts) if broken.is_empty() => Ok(counts),
            Ok(_) => Err(broken),
            Err(violations) => {
                broken.extend(violations);
                Err(broken)
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Recorded) -> T) -> T {
        // A client that panics fails its test; the events recorded until then are complete.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recorded {
    fn append(&mut self, event: Event) {
        if let Some(file) = &mut self.file {
            let written = serde_json::to_writer(&mut *file, &event)
                .map_err(io::Error::from)
                .and_then(|()| file.write_all(b"\n"));
            if let Err(error) = written {
                self.write_error.get_or_insert(error);
            }
        }
        self.events.push(event);
    }
}
