//! `vaultsync user export`: a user's vaults as files, in the format of `GET /api/sync/export`.
//!
//! Read page by page, so that a server beside it goes on undisturbed.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use vaultsync_protocol::{
    Cursor, ExportRequest, ExportWriter, KnownEpoch, PAGE_RECORDS_MAX, Page, Pull, RecordVersion,
    StreamProgress, StreamRange, Timestamp,
};
use vaultsync_store::{OperatorStore, PullOutcome, RevisionsOutcome, RevisionsRequest, Vault};

/// Writes a vault to a file in `folder`, which must not have it yet. The file has its name only once it is
/// complete.
pub(crate) async fn export(
    store: &OperatorStore,
    vault: &Vault,
    request: ExportRequest,
    folder: &Path,
    now: Timestamp,
) -> anyhow::Result<PathBuf> {
    let writer = ExportWriter::new(vault.name(), request, now);
    let path = folder.join(writer.file_name());
    ensure!(!path.exists(), "{} exists already", path.display());
    let part = path.with_extension("ndjson.part");
    let file = create(&part).with_context(|| format!("cannot create {}", part.display()))?;
    let written = Export { store, vault, writer, file, lines: Vec::new() }.write().await;
    let renamed = written.and_then(|()| {
        fs::rename(&part, &path).with_context(|| format!("cannot create {}", path.display()))
    });
    if renamed.is_err() {
        // The error that is returned says more than one of this.
        let _ = fs::remove_file(&part);
    }
    renamed.map(|()| path)
}

/// Only the operator may read it: it shows when the user wrote what, although not what.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// An export that is being written.
struct Export<'a> {
    store: &'a OperatorStore,
    vault: &'a Vault,
    writer: ExportWriter,
    file: File,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
}

impl Export<'_> {
    async fn write(mut self) -> anyhow::Result<()> {
        let mut pull = Pull { limit: PAGE_RECORDS_MAX, ..Pull::default() };
        let mut page = self.page(&pull).await?;
        let mut range = StreamRange::new(&page);
        pull.epoch = page.epoch.map(KnownEpoch::from);
        self.writer.start(&mut self.lines, page.epoch, page.head);
        loop {
            let progress = range.cut(&mut page);
            page.records.iter().for_each(|record| self.writer.record(&mut self.lines, record));
            self.flush()?;
            match progress {
                StreamProgress::Continues => {}
                StreamProgress::Ended => break,
                StreamProgress::EndsTooEarly => bail!("the database lost records meanwhile"),
            }
            pull.cursor = range.last().map(Cursor::from);
            page = self.page(&pull).await?;
        }
        if self.writer.has_history() {
            self.write_history(pull.epoch).await?;
        }
        self.writer.end(&mut self.lines, page.head > range.head());
        self.flush()?;
        self.file.sync_all().context("cannot write the export")
    }

    async fn write_history(&mut self, epoch: Option<KnownEpoch>) -> anyhow::Result<()> {
        let mut request = RevisionsRequest { epoch, after: None };
        loop {
            let versions = self.versions(&request).await?;
            let Some(last) = versions.last() else { return Ok(()) };
            request.after = Some((last.record_id.clone(), last.version));
            for version in &versions {
                self.writer.version(&mut self.lines, version);
            }
            self.flush()?;
        }
    }

    async fn page(&self, pull: &Pull) -> anyhow::Result<Page> {
        match self.store.pull(self.vault, pull).await? {
            PullOutcome::Page(page) => Ok(page),
            _ => bail!("the vault was erased or replaced meanwhile"),
        }
    }

    async fn versions(&self, request: &RevisionsRequest) -> anyhow::Result<Vec<RecordVersion>> {
        match self.store.revisions(self.vault, request).await? {
            RevisionsOutcome::Page(versions) => Ok(versions),
            _ => bail!("the vault was erased or replaced meanwhile"),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.file.write_all(&self.lines).context("cannot write the export")?;
        self.lines.clear();
        Ok(())
    }
}
