//! `vaultsync user export`: a user's vaults as files, in the format of `GET /api/sync/export`.
//!
//! Read page by page, so that a server beside it goes on undisturbed.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use tempfile::NamedTempFile;
use vaultsync_protocol::{
    Cursor, ExportRequest, ExportWriter, KnownEpoch, PAGE_RECORDS_MAX, Page, Pull, StreamProgress,
    StreamRange, Timestamp,
};
use vaultsync_store::{
    OperatorStore, PullOutcome, Revisions, RevisionsOutcome, RevisionsRequest, Vault,
};

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
    // Only its owner may read it: it shows when the user wrote what, although not what.
    let file = NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot create a file in {}", folder.display()))?;
    let export = Export { store, vault, writer, file: file.as_file(), lines: Vec::new() };
    export.write().await?;
    file.persist_noclobber(&path)
        .map_err(|error| error.error)
        .with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// An export that is being written.
struct Export<'a> {
    store: &'a OperatorStore,
    vault: &'a Vault,
    writer: ExportWriter,
    file: &'a File,
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
        let mut head = page.head;
        if self.writer.has_history() {
            head = head.max(self.write_history(pull.epoch).await?);
        }
        self.writer.end(&mut self.lines, head > range.head());
        self.flush()?;
        self.file.sync_all().context("cannot write the export")
    }

    /// Writes the kept versions. Returns the vault's head when the last ones were read.
    async fn write_history(
        &mut self,
        epoch: Option<KnownEpoch>,
    ) -> anyhow::Result<Option<Timestamp>> {
        let mut request = RevisionsRequest { epoch, after: None };
        loop {
            let page = self.revisions(&request).await?;
            for version in &page.versions {
                self.writer.version(&mut self.lines, version);
            }
            self.flush()?;
            let Some(next) = request.after_page(&page) else { return Ok(page.head) };
            request = next;
        }
    }

    async fn page(&self, pull: &Pull) -> anyhow::Result<Page> {
        match self.store.pull(self.vault, pull).await? {
            PullOutcome::Page(page) => Ok(page),
            _ => bail!("the vault was erased or replaced meanwhile"),
        }
    }

    async fn revisions(&self, request: &RevisionsRequest) -> anyhow::Result<Revisions> {
        match self.store.revisions(self.vault, request).await? {
            RevisionsOutcome::Page(revisions) => Ok(revisions),
            _ => bail!("the vault was erased or replaced meanwhile"),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.file.write_all(&self.lines).context("cannot write the export")?;
        self.lines.clear();
        Ok(())
    }
}
