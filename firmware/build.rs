//! Gives an image its memory map and linker script. Only where there is no operating system, and
//! only to the image itself: a search path said for the library would reach every dependent.

use std::path::PathBuf;

/// Each image and the folder of its memory map.
const IMAGES: [(&str, &str); 3] = [("mps2", "mps2"), ("mps2-cost", "mps2"), ("lm3s", "lm3s")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    for (image, board) in IMAGES {
        let folder = here.join("boards").join(board);
        println!("cargo:rerun-if-changed={}", folder.display());
        println!("cargo:rustc-link-arg-bin={image}=-L{}", folder.display());
        println!("cargo:rustc-link-arg-bin={image}=-Tlink.x");
    }
}
