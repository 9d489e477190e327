//! The number of instructions of the hot paths, compared with the saved numbers: the only measure of speed
//! that does not depend on how busy the machine is.
//!
//! Not here: the paths (example `hot_paths` of the test kit).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::steps::PROFILE;

/// The arguments with which cargo builds the program that runs the paths.
pub(crate) const BUILD: &[&str] = &[
    "build",
    "--profile",
    PROFILE,
    "--locked",
    "--package",
    "vaultsync-testkit",
    "--example",
    "hot_paths",
];

const PATHS: [&str; 5] = [
    "decode_push_of_1",
    "decode_push_of_100",
    "check_version_100",
    "encode_page_of_100",
    "authenticate_cached",
];

/// Maximum growth of a count, in percent. The random seeds of hash tables change a count by less than one.
const GROWTH_PERCENT_MAX: i64 = 5;

/// Instructions by path.
type Counts = BTreeMap<String, i64>;

/// Counts the instructions, and fails if a path has grown. If the saved counts are from another compiler,
/// they cannot be compared, and the new counts are only printed.
pub(crate) fn compare() -> anyhow::Result<()> {
    let (saved_compiler, saved) = read()?;
    let compiler = compiler()?;
    let counted = count_all()?;
    let mut grown = Vec::new();
    for (path, count) in &counted {
        let before = saved.get(path).copied();
        let percent = before.map(|before| (count - before) * 100 / before.max(1));
        let shown = percent.map_or_else(|| "new".to_owned(), |percent| format!("{percent:+} %"));
        eprintln!("{path:>20} {count:>12} instructions  {shown}");
        // Not by the percentage that is printed, which is rounded.
        let has_grown = |before: i64| (count - before) * 100 > before * GROWTH_PERCENT_MAX;
        if before.is_none_or(has_grown) {
            grown.push(path.as_str());
        }
    }
    if saved_compiler != compiler {
        eprintln!(
            "not compared: the saved counts are from {saved_compiler}, and this is {compiler}"
        );
        return Ok(());
    }
    ensure!(
        grown.is_empty(),
        "{} grew by more than {GROWTH_PERCENT_MAX} %. Fix it, or save the new counts with \
         `cargo xtask save-instructions` and give the reason in the commit message",
        grown.join(", ")
    );
    Ok(())
}

/// Counts the instructions, and saves the counts.
pub(crate) fn save() -> anyhow::Result<()> {
    let mut text = format!(
        "# Instructions of the hot paths: written by `cargo xtask save-instructions`, compared by\n\
         # `cargo xtask test` if the compiler is the same.\n\
         compiler = \"{}\"\n\n[instructions]\n",
        compiler()?
    );
    for (path, count) in count_all()? {
        writeln!(text, "{path} = {count}").context("a count cannot be written")?;
    }
    eprint!("{text}");
    fs::write(file(), text).context("the counts cannot be saved")
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

/// What every count depends on: the compiler, its target, the version of Valgrind, and the vector
/// instructions by which some code selects its variant at run time.
fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output().context("rustc cannot be run")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let field = |name: &str| {
        let line = version.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
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

/// The instructions from the begin to the end of a path, counted by Valgrind's Callgrind.
fn count(path: &str) -> anyhow::Result<i64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let out = target.join(format!("{path}.callgrind"));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{path}*"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(target.join(PROFILE).join("examples/hot_paths"))
        .arg(path)
        .output()
        .context("valgrind cannot be run")?;
    if !run.status.success() {
        bail!("{path}: {}", String::from_utf8_lossy(&run.stderr));
    }
    let output = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let total = output.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = total.and_then(|total| total.trim().parse().ok()).unwrap_or(0);
    ensure!(total > 0, "{path}: no instructions were counted");
    Ok(total)
}
