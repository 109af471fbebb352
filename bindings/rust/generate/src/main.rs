// SPDX-License-Identifier: Apache-2.0
//! Makes the raw bindings of `spectrumkv-sys` from `include/spectrumkv.h`: `types.rs` (constants, structs, handles),
//! `link.rs` (functions resolved by the linker) and `dlopen.rs` (the same functions resolved at run time).
//!
//! `generate HEADER DIRECTORY [--check]`. With `--check` nothing is written: files that differ are named, exit 1.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A function as bindgen declares it: `name`, `(arguments)`, ` -> result` or nothing.
struct Function {
    name: String,
    arguments: String,
    result: String,
}

fn builder(header: &Path) -> bindgen::Builder {
    let include = header.parent().expect("the header has a folder");
    bindgen::builder()
        .header(header.display().to_string())
        .clang_arg(format!("-I{}", include.display()))
        // Fixed, so that the result does not depend on the machine it was made on.
        .clang_args(["-std=c99", "--target=x86_64-unknown-linux-gnu"])
        .allowlist_item("(skv|SKV)_.*")
        .use_core()
        .generate_comments(false)
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .derive_default(false)
        .derive_debug(false)
        .merge_extern_blocks(true)
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("a stable version"))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .disable_header_comment()
}

/// The functions of bindgen's one `extern` block.
fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for part in text.split("pub fn ").skip(1) {
        let end = part.find(';').expect("a declaration ends");
        let declaration = part[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let open = declaration.find('(').expect("arguments");
        let close = declaration.rfind(')').expect("arguments");
        let arguments = declaration[open + 1..close].trim().trim_end_matches(',').to_owned();
        found.push(Function {
            name: declaration[..open].to_owned(),
            arguments,
            result: declaration[close + 1..].to_owned(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

const MADE: &str =
    "// SPDX-License-Identifier: Apache-2.0\n// Made from include/spectrumkv.h by generate.sh. Do not edit.\n";

fn link(functions: &[Function]) -> String {
    let mut out = String::from(MADE);
    out += "\nuse crate::types::*;\n\nunsafe extern \"C\" {\n";
    for f in functions {
        writeln!(out, "    pub fn {}({}){};", f.name, f.arguments, f.result).expect("a string");
    }
    out += "}\n";
    out
}

fn dlopen(functions: &[Function]) -> String {
    let mut out = String::from(MADE);
    out += "\nuse crate::types::*;\n\n/// Every function of the header, as found in a loaded library.\n";
    out += "pub(crate) struct Table {\n";
    for f in functions {
        let kinds: Vec<&str> =
            f.arguments.split(", ").filter_map(|a| a.split_once(": ").map(|(_, kind)| kind)).collect();
        writeln!(out, "    {}: unsafe extern \"C\" fn({}){},", f.name, kinds.join(", "), f.result).expect("a string");
    }
    out += "}\n\nimpl Table {\n    /// # Safety\n    /// `library` must be libspectrumkv of this ABI version.\n";
    out += "    pub(crate) unsafe fn find(library: &libloading::Library) -> Result<Self, libloading::Error> {\n";
    out += "        // SAFETY: the caller vouches for the library, and these are its prototypes.\n        unsafe {\n            Ok(Self {\n";
    for f in functions {
        writeln!(out, "                {0}: *library.get(c\"{0}\")?,", f.name).expect("a string");
    }
    out += "            })\n        }\n    }\n}\n";
    for f in functions {
        let names: Vec<&str> =
            f.arguments.split(", ").filter_map(|a| a.split_once(": ").map(|(name, _)| name)).collect();
        write!(
            out,
            "\npub unsafe fn {0}({1}){2} {{\n    // SAFETY: the caller keeps the contract of the C function.\n    unsafe {{ (crate::table().{0})({3}) }}\n}}\n",
            f.name,
            f.arguments,
            f.result,
            names.join(", ")
        )
        .expect("a string");
    }
    out
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|a| a == "--check");
    let paths: Vec<PathBuf> = arguments.iter().filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    let [header, directory] = paths.as_slice() else {
        eprintln!("usage: generate HEADER DIRECTORY [--check]");
        return ExitCode::from(2);
    };
    let types = builder(header).ignore_functions().generate().expect("bindgen understands the header").to_string();
    let declarations = builder(header)
        .with_codegen_config(bindgen::CodegenConfig::FUNCTIONS)
        .generate()
        .expect("bindgen understands the header")
        .to_string();
    let functions = functions(&declarations);
    if functions.is_empty() {
        eprintln!("{}: no function found", header.display());
        return ExitCode::FAILURE;
    }
    let files =
        [("types.rs", format!("{MADE}\n{types}")), ("link.rs", link(&functions)), ("dlopen.rs", dlopen(&functions))];
    let mut stale = 0;
    for (name, text) in files {
        let path = directory.join(name);
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        if old == text {
            continue;
        }
        if check {
            stale += 1;
            eprintln!("{} is not what the header says:", path.display());
            for f in &functions {
                if name != "types.rs" && !old.contains(&format!("fn {}(", f.name)) {
                    eprintln!("  {} is missing", f.name);
                }
            }
        } else if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if stale > 0 {
        eprintln!("run scripts/generate.sh and commit the result");
        return ExitCode::FAILURE;
    }
    println!("{} functions", functions.len());
    ExitCode::SUCCESS
}
