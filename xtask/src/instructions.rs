//! How many instructions the hot paths take, compared with what they took: the one figure of speed that is
//! the same on a busy machine.
//!
//! Not here: the paths (`hot_paths` in the testkit).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

/// Builds the program that has the paths.
pub(crate) const BUILD: &[&str] =
    &["build", "--release", "--locked", "--package", "vaultsync-testkit", "--example", "hot_paths"];

const PATHS: [&str; 5] =
    ["decode_push_of_1", "decode_push_of_100", "judge_100", "encode_page_of_100", "recall_token"];

/// By how much a count may grow, in percent. Hash tables are seeded at random, which moves a count by
/// less than one.
const GROWTH_MAX: i64 = 5;

/// What is kept, beside the compiler's version under `compiler`.
type Counts = BTreeMap<String, i64>;

/// Counts, and fails where a path has grown. With another compiler than the one that the kept counts were
/// made with there is nothing to compare, and the counts are only shown.
pub(crate) fn compare() -> anyhow::Result<()> {
    let (kept_compiler, kept) = read()?;
    let compiler = compiler()?;
    let counted = count_all()?;
    let mut grown = Vec::new();
    for (path, count) in &counted {
        let before = kept.get(path).copied();
        let percent = before.map(|before| (count - before) * 100 / before.max(1));
        let shown = percent.map_or_else(|| "new".to_owned(), |percent| format!("{percent:+} %"));
        eprintln!("{path:>20} {count:>12} instructions  {shown}");
        // Not by the percents shown, which are cut to whole ones.
        let is_more = |before: i64| (count - before) * 100 > before * GROWTH_MAX;
        if before.is_none_or(is_more) {
            grown.push(path.as_str());
        }
    }
    if kept_compiler != compiler {
        eprintln!("not compared: the kept counts are of {kept_compiler}, and this is {compiler}");
        return Ok(());
    }
    ensure!(
        grown.is_empty(),
        "{} grew by more than {GROWTH_MAX} %. Mend it, or keep the new counts with \
         `cargo xtask save-instructions` and say why",
        grown.join(", ")
    );
    Ok(())
}

/// Counts, and keeps the counts.
pub(crate) fn save() -> anyhow::Result<()> {
    let mut text = format!(
        "# Instructions of the hot paths: written by `cargo xtask save-instructions`, compared by\n\
         # `cargo xtask test` where the compiler is the same.\n\
         compiler = \"{}\"\n\n[instructions]\n",
        compiler()?
    );
    for (path, count) in count_all()? {
        writeln!(text, "{path} = {count}").context("a count cannot be written")?;
    }
    eprint!("{text}");
    fs::write(file(), text).context("the counts cannot be kept")
}

fn read() -> anyhow::Result<(String, Counts)> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let table: toml::Table = text.parse().with_context(|| file.display().to_string())?;
    let compiler = table.get("compiler").and_then(toml::Value::as_str).unwrap_or_default();
    let counts = table.get("instructions").and_then(toml::Value::as_table);
    let counts = counts.into_iter().flatten();
    let counts = counts.filter_map(|(path, count)| Some((path.clone(), count.as_integer()?)));
    Ok((compiler.to_owned(), counts.collect()))
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

/// What every count depends on: the compiler, what it compiles for, what counts, and which of the code that
/// is there in several forms the processor chooses.
fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("-vV").output().context("rustc cannot be run")?;
    let told = String::from_utf8_lossy(&told.stdout);
    let field = |name: &str| {
        told.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let valgrind = Command::new("valgrind").arg("--version").output();
    let valgrind = valgrind.context("valgrind cannot be run")?.stdout;
    let valgrind = String::from_utf8_lossy(&valgrind).trim().to_owned();
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { "avx2" } else { "sse" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = std::env::consts::ARCH;
    Ok(format!("{} {} {valgrind} {vectors}", field("release:"), field("host:")))
}

fn count_all() -> anyhow::Result<Counts> {
    PATHS.iter().map(|path| Ok(((*path).to_owned(), count(path)?))).collect()
}

/// The instructions between a path's begin and its end, by Valgrind's Callgrind.
fn count(path: &str) -> anyhow::Result<i64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let out = target.join(format!("{path}.callgrind"));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{path}*"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(target.join("release/examples/hot_paths"))
        .arg(path)
        .output()
        .context("valgrind cannot be run")?;
    if !run.status.success() {
        bail!("{path}: {}", String::from_utf8_lossy(&run.stderr));
    }
    let told = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let total = told.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = total.and_then(|total| total.trim().parse().ok()).unwrap_or(0);
    ensure!(total > 0, "{path}: nothing was counted");
    Ok(total)
}
