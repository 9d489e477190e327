//! Pushes the files of a folder as records, or pulls a vault, and prints a digest of the records.
//!
//! `folder push URL TOKEN FOLDER` and `folder pull URL TOKEN` print the same digest if nothing was lost.
//! The files are pushed unencrypted: the example demonstrates the protocol, not encryption.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Maximum number of files that are pushed.
const RECORDS_MAX: usize = 10_000;

/// The protocol's maximum number of operations in one push.
const OPERATIONS_MAX: usize = 100;

/// Maximum size of a file, the default limit of a record. Larger files are skipped.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Maximum ciphertext in one push, well below the default limit of 16 MiB for a body.
const PUSH_BYTES_MAX: usize = 8 * 1024 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let records = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["push", url, token, folder] => push(url, token, Path::new(folder)).await?,
        ["pull", url, token] => pull(url, token).await?,
        _ => bail!("usage: folder push URL TOKEN FOLDER, or folder pull URL TOKEN"),
    };
    let mut digest = Sha256::new();
    for (id, ciphertext) in &records {
        digest.update(format!("{id} {ciphertext}\n"));
    }
    print!("{} records, sha256 ", records.len());
    digest.finalize().iter().for_each(|byte| print!("{byte:02x}"));
    println!();
    Ok(())
}

/// Creates a record for each file, in pushes of several records. Returns the records by their ids.
async fn push(url: &str, token: &str, folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut records = BTreeMap::new();
    for file in files(folder)? {
        let id = file.strip_prefix(folder)?.to_string_lossy().into_owned();
        if (1..=255).contains(&id.len()) && !id.contains(char::is_control) {
            records.insert(id, base64_simd::STANDARD.encode_to_string(fs::read(&file)?));
        }
        if records.len() == RECORDS_MAX {
            break;
        }
    }
    let client = reqwest::Client::new();
    let mut remaining = records.iter().peekable();
    while remaining.peek().is_some() {
        let (mut operations, mut bytes) = (Vec::new(), 0);
        while let Some((id, ciphertext)) = remaining.next_if(|(_, ciphertext)| {
            operations.len() < OPERATIONS_MAX && bytes + ciphertext.len() <= PUSH_BYTES_MAX
        }) {
            bytes += ciphertext.len();
            operations.push(json!({
                "recordId": id, "baseVersion": null, "ciphertext": ciphertext, "deleted": false,
            }));
        }
        let request = client.post(format!("{url}/api/sync/push")).bearer_auth(token);
        let response = request.json(&json!({ "operations": operations })).send().await?;
        ensure!(response.status().is_success(), "{}", response.text().await?);
    }
    Ok(records)
}

/// The files in a folder and its subfolders that are not empty and fit into a record.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && (1..=FILE_BYTES_MAX).contains(&entry.metadata()?.len()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Pulls the whole vault. Returns the records by their ids, without tombstones.
async fn pull(url: &str, token: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let client = reqwest::Client::new();
    let (mut records, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let request = client.get(format!("{url}/api/sync/pull?cursor={cursor}")).bearer_auth(token);
        let response = request.send().await?;
        ensure!(response.status().is_success(), "{}", response.text().await?);
        let page: Value = response.json().await?;
        for record in page["records"].as_array().context("a page has records")? {
            let id = record["recordId"].as_str().context("a record has an id")?.to_owned();
            let ciphertext =
                record["ciphertext"].as_str().context("a record has a ciphertext")?.to_owned();
            match record["deleted"] {
                Value::Bool(true) => records.remove(&id),
                _ => records.insert(id, ciphertext),
            };
        }
        if let Some(next) = page["nextCursor"].as_str() {
            next.clone_into(&mut cursor);
        }
        if page["hasMore"] == false {
            return Ok(records);
        }
    }
}
