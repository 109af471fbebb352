// SPDX-License-Identifier: Apache-2.0
//! `api JSON VERSION LISTING [--update]`: the public items in rustdoc's JSON against a committed listing, whose first line is the
//! version that they belong to. An item that is gone or changed needs a version that Cargo takes for incompatible; a new one needs
//! the listing updated. Exit 1 names the items; exit 3: this rustdoc's JSON cannot be read.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

/// What must stay equal for Cargo to take two versions for compatible: 0.MINOR, or MAJOR.
fn compatible(version: &str) -> &str {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.match_indices('.').nth(parts - 1).map_or(version, |(end, _)| &version[..end])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [json, version, listing, update @ ..] = arguments.as_slice() else {
        eprintln!("usage: api JSON VERSION LISTING [--update]");
        return ExitCode::from(2);
    };
    let built = public_api::Builder::from_rustdoc_json(Path::new(json))
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    let items: BTreeSet<String> = match built {
        Ok(api) => api.items().map(ToString::to_string).collect(),
        Err(error) => {
            eprintln!("{json}: {error}");
            return ExitCode::from(3);
        }
    };
    let text = std::fs::read_to_string(listing).unwrap_or_default();
    let mut lines = text.lines();
    let before = lines.next().unwrap_or("none").to_owned();
    let old: BTreeSet<String> = lines.map(str::to_owned).collect();
    let broken = !old.is_subset(&items) && compatible(&before) == compatible(version);
    if broken {
        eprintln!("gone or changed since {before}, which needs another version than {version}:");
        old.difference(&items).for_each(|item| eprintln!("  {item}"));
        return ExitCode::FAILURE;
    }
    if old == items && before == *version {
        println!("{} public items, as listed for {version}", items.len());
        return ExitCode::SUCCESS;
    }
    if update.iter().any(|argument| argument == "--update") {
        let all: Vec<&str> = std::iter::once(version.as_str()).chain(items.iter().map(String::as_str)).collect();
        std::fs::write(listing, all.join("\n") + "\n").expect("the listing can be written");
        println!("{} public items listed for {version}", items.len());
        return ExitCode::SUCCESS;
    }
    eprintln!("{listing} is of {before}, not {version}, or lacks (bindings/rust/semver.sh --update):");
    items.difference(&old).for_each(|item| eprintln!("  {item}"));
    ExitCode::FAILURE
}
