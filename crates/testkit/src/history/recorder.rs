//! Where clients write down what they do, from any number of tasks at once.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Event, Outcome, Request, Seen};

/// A history in the making. Clones write to the same one.
///
/// Its lock is held for as long as it takes to append a line, so asynchronous code may call it.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    events: Vec<Event>,
    operations: u64,
    file: Option<BufWriter<File>>,
    failure: Option<io::Error>,
}

impl Recorder {
    /// One that writes each line to a new file too.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = Some(BufWriter::new(File::create(path)?));
        Ok(Self(Arc::new(Mutex::new(Recorded { file, ..Recorded::default() }))))
    }

    /// Writes down that a request is about to be sent; the number is for [`Self::end`].
    ///
    /// One that is never ended, because its client was dropped, is of unknown outcome.
    pub fn begin(&self, user: &Arc<str>, device: &Arc<str>, request: Request) -> u64 {
        self.with(|recorded| {
            let operation = recorded.operations;
            recorded.operations += 1;
            let (user, device) = (Arc::clone(user), Arc::clone(device));
            recorded.append(Event::Begin { operation, user, device, request });
            operation
        })
    }

    /// Writes down what a client was told.
    pub fn end(&self, operation: u64, outcome: Outcome) {
        self.with(|recorded| recorded.append(Event::End { operation, outcome }));
    }

    /// Writes down what a vault holds when all is over.
    pub fn state(&self, user: &Arc<str>, records: Vec<Seen>) {
        let user = Arc::clone(user);
        self.with(|recorded| recorded.append(Event::State { user, records }));
    }

    /// Takes the history, and sees its file written.
    ///
    /// # Errors
    ///
    /// The first failure to write to the file.
    pub fn finish(&self) -> io::Result<Vec<Event>> {
        self.with(|recorded| {
            if let Some(mut file) = recorded.file.take() {
                file.flush()?;
            }
            match recorded.failure.take() {
                Some(failure) => Err(failure),
                None => Ok(std::mem::take(&mut recorded.events)),
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Recorded) -> T) -> T {
        // A client that panics fails its test; what was recorded until then is whole.
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
                self.failure.get_or_insert(error);
            }
        }
        self.events.push(event);
    }
}
