//! An image as one file: an OCI image layout (OCI image specification 1.1, `image-layout.md`) in a tar archive, which
//! `ctr images import`, `podman load` and `skopeo copy oci-archive:FILE` take.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;
use tar::Builder;

use super::config::{Image, descriptor};
use super::layer::append_file;
use super::plan::Source;
use super::reference::Reference;

/// Writes an image under a name. The file appears whole, or not at all.
///
/// # Errors
/// Which file can't be written or read.
pub(crate) fn write(image: &Image, name: &Reference, to: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", to.display());
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(said)?;
    let aside = tempfile::Builder::new()
        .prefix(".image-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(said)?;
    let mut tar = Builder::new(BufWriter::new(aside));
    let text = |text: &str| Source::Bytes(text.into());
    append_file(&mut tar, "oci-layout", MODE, &text(r#"{"imageLayoutVersion":"1.0.0"}"#))?;
    append_file(&mut tar, "index.json", MODE, &text(&index(image, name)))?;
    for blob in [&image.manifest].into_iter().chain(image.parts()) {
        append_file(&mut tar, &blob.path(), MODE, &blob.source)?;
    }
    let mut buffered = tar.into_inner().map_err(said)?;
    buffered.flush().map_err(said)?;
    let aside = buffered.into_inner().map_err(|error| said(error.into_error()))?;
    aside.persist(to).map(drop).map_err(|error| said(error.error))
}

const MODE: u32 = 0o644;

/// The index, with the name for containerd, and the tag for tools that read the specification's own.
fn index(image: &Image, name: &Reference) -> String {
    let mut manifest = descriptor(&image.manifest);
    manifest["annotations"] = json!({
        "io.containerd.image.name": name.to_string(),
        "org.opencontainers.image.ref.name": name.tag,
    });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    })
    .to_string()
}
