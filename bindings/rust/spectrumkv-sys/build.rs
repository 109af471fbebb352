// SPDX-License-Identifier: Apache-2.0
//! Finds libspectrumkv.so for the `link` feature: `SPECTRUMKV_LIB_DIR`, else pkg-config.

fn main() {
    println!("cargo::rerun-if-env-changed=SPECTRUMKV_LIB_DIR");
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    let on = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    // Documentation is built where no library is; with dlopen the linker has nothing to do.
    if std::env::var_os("DOCS_RS").is_some() || on("DLOPEN") || !on("LINK") {
        return;
    }
    if let Some(folder) = std::env::var_os("SPECTRUMKV_LIB_DIR") {
        println!("cargo::rustc-link-search=native={}", std::path::Path::new(&folder).display());
        println!("cargo::rustc-link-lib=dylib=spectrumkv");
        return;
    }
    probe();
}

#[cfg(feature = "link")]
fn probe() {
    // Before 1.0 a minor release may break the ABI.
    let minor = |add: u32| {
        let part = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok()).unwrap_or(0);
        format!("{}.{}.0", part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR") + add)
    };
    let range = minor(0)..minor(1);
    if let Err(error) =
        pkg_config::Config::new().range_version(range.start.as_str()..range.end.as_str()).probe("spectrumkv")
    {
        println!(
            "cargo::error=libspectrumkv was not found: set SPECTRUMKV_LIB_DIR to the folder of libspectrumkv.so, install it so that \
             pkg-config finds it, or use the feature \"dlopen\". pkg-config says: {}",
            error.to_string().replace('\n', " ")
        );
    }
}

#[cfg(not(feature = "link"))]
fn probe() {}
