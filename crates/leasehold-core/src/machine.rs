//! What the machine says of itself.

#[cfg(feature = "sqlite")]
use std::path::Path;

/// Which boot of the machine it is, where the system tells: two processes that read the same run under the same kernel.
pub(crate) fn boot() -> Option<&'static str> {
    static BOOT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let read =
        || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned());
    BOOT.get_or_init(read).as_deref()
}

/// The network file system that a folder is on, if it is on one: locks there do not prove anything.
#[cfg(all(target_os = "linux", feature = "sqlite"))]
pub(crate) fn network(folder: &Path) -> Option<&'static str> {
    // The type of the field differs between architectures; the numbers are 32 bits wide.
    let magic = rustix::fs::statfs(folder).ok()?.f_type as u32;
    network_name(magic)
}

/// Whether a lock of this file is known to go with the process that has it, and to keep every other one of this machine out; what
/// the file is on, otherwise.
#[cfg(target_os = "linux")]
pub(crate) fn locks_prove(file: &std::fs::File) -> Result<(), String> {
    let unknown = |what: String| Err(what);
    match rustix::fs::fstatfs(file) {
        Ok(found) if LOCAL.contains(&(found.f_type as u32)) => Ok(()),
        Ok(found) => match network_name(found.f_type as u32) {
            Some(name) => unknown(format!("a network file system ({name})")),
            None => unknown(format!("a file system of type {:#x}", found.f_type as u32)),
        },
        Err(error) => unknown(format!("a file system that does not say what it is ({error})")),
    }
}

/// There, no boot is known either, without which nothing is proven.
#[cfg(not(target_os = "linux"))]
pub(crate) fn locks_prove(_: &std::fs::File) -> Result<(), String> {
    Ok(())
}

/// From statfs(2): ext2 to ext4, XFS, Btrfs, ZFS, F2FS, bcachefs, tmpfs, ramfs, overlayfs.
#[cfg(target_os = "linux")]
const LOCAL: [u32; 9] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x2FC1_2FC1,
    0xF2F5_2010,
    0xCA45_1A4E,
    0x0102_1994,
    0x8584_58F6,
    0x794C_7630,
];

#[cfg(all(not(target_os = "linux"), feature = "sqlite"))]
pub(crate) fn network(_: &Path) -> Option<&'static str> {
    None
}

/// From statfs(2). FUSE is not here: what lies behind it cannot be told.
#[cfg(target_os = "linux")]
fn network_name(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517B => Some("SMB"),
        0xFF53_4D42 => Some("CIFS"),
        0xFE53_4D42 => Some("SMB2"),
        0x0102_1997 => Some("9p"),
        _ => None,
    }
}

/// The folder that a file is in.
#[cfg(feature = "sqlite")]
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xFF53_4D42), Some("CIFS"));
        for local in [0xEF53, 0x0102_1994, 0x5846_5342, 0x794C_7630] {
            assert_eq!(network_name(local), None, "ext4, tmpfs, XFS and overlayfs are local");
            assert!(LOCAL.contains(&local));
        }
    }
}
