//! Digests of files that have not changed since they were computed, so that a start need not read what it only has to
//! recognise.
//!
//! A file is taken for unchanged if its device, inode, size and both times are what they were. On the file systems named
//! below the time of change cannot be set by whoever writes to a file; on others, such as the image of an appliance, whose
//! builder sets all times, files are read each time. A file that was changed a moment ago could change again without its
//! times telling, so its digest is not kept (what git calls a racily clean entry).

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where digests are kept: a directory that nobody else can write to.
#[derive(Clone, Debug)]
pub(crate) struct Stamps {
    directory: PathBuf,
}

impl Stamps {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The hexadecimal BLAKE3 of a file.
    pub(crate) fn digest_of(&self, path: &Path) -> io::Result<String> {
        let file = File::open(path)?;
        let stamp = self.stamp(&file.metadata()?);
        let tells_changes = TELL_CHANGES.contains(&(rustix::fs::fstatfs(&file)?.f_type as u64 & 0xffff_ffff));
        if tells_changes
            && let Ok(digest) = fs::read_to_string(&stamp)
            && digest.len() == 2 * blake3::OUT_LEN
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(digest);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file)?;
        let digest = hasher.finalize().to_hex().to_string();
        // Looked at again, since it may have changed while it was read.
        let metadata = file.metadata()?;
        if tells_changes && self.stamp(&metadata) == stamp && is_settled(&metadata) {
            self.keep(&stamp, &digest);
        }
        Ok(digest)
    }

    fn stamp(&self, file: &Metadata) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for number in [file.dev(), file.ino(), file.size()] {
            hasher.update(&number.to_le_bytes());
        }
        for number in [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] {
            hasher.update(&number.to_le_bytes());
        }
        self.directory.join(format!("{}.{EXTENSION}", &hasher.finalize().to_hex()[..32]))
    }

    /// Whether it works or not, there is a digest.
    fn keep(&self, stamp: &Path, digest: &str) {
        let kept = tempfile::NamedTempFile::new_in(&self.directory).and_then(|mut file| {
            io::Write::write_all(&mut file, digest.as_bytes())?;
            file.persist(stamp)?;
            Ok(())
        });
        if let Err(error) = kept {
            tracing::debug!(%error, path = %stamp.display(), "cannot keep a digest");
        }
    }
}

/// Whether the file's times are far enough in the past to tell the next change.
fn is_settled(file: &Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = file.ctime().max(file.mtime());
    u64::try_from(changed).is_ok_and(|changed| Duration::from_secs(changed) + SETTLED_AFTER < now)
}

/// File systems that keep the time of change themselves: ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs, overlayfs (statfs(2)).
const TELL_CHANGES: [u64; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630];

/// More than the granularity of any file system's times.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// Of the files that hold a digest.
const EXTENSION: &str = "seen";

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    fn digest(content: &str) -> String {
        blake3::hash(content.as_bytes()).to_hex().to_string()
    }

    #[test]
    fn a_digest_is_kept_once_the_file_has_settled_and_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let kept = || fs::read_dir(directory.path()).unwrap().count();
        let stamps = Stamps::in_directory(directory.path());
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("file");
        fs::write(&file, "one").unwrap();
        assert_eq!(stamps.digest_of(&file).unwrap(), digest("one"));
        assert_eq!(kept(), 0, "it may change again within the same moment");
        sleep(SETTLED_AFTER + Duration::from_secs(1));
        for _ in 0..2 {
            assert_eq!(stamps.digest_of(&file).unwrap(), digest("one"));
            assert_eq!(kept(), 1);
        }
        // The kept one is really what is used.
        let stamp = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&stamp, digest("planted")).unwrap();
        assert_eq!(stamps.digest_of(&file).unwrap(), digest("planted"));
        fs::write(&stamp, "damaged").unwrap();
        assert_eq!(stamps.digest_of(&file).unwrap(), digest("one"));
        // Of the same size, and with the time of modification set back.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(stamps.digest_of(&file).unwrap(), digest("two"));
    }
}
