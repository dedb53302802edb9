//! Loop devices through their ioctls (linux/loop.h). The only module with `unsafe` code.
#![expect(
    unsafe_code,
    reason = "loop devices have no other interface than ioctls; each call says why it is sound"
)]

use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::io::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

use crate::error::Fault;

const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const READ_ONLY: u32 = 1;
const LOOP_MAJOR: u32 = 7;
const CONTROL: &str = "/dev/loop-control";
/// How often another program may be faster than we are in taking a free device.
const TRIES: u32 = 100;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    /// Of a block device below.
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const NO_INFO: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232, "struct loop_info64 is 232 bytes");
const _: () = assert!(
    size_of::<Config>() == 304,
    "struct loop_config is 304 bytes"
);

/// `LOOP_CTL_GET_FREE`, whose answer is what the call returns.
struct GetFree;

// SAFETY: the opcode takes no argument, reads and writes no memory of ours, and returns a number.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::INVAL)
    }
}

/// A loop device in use.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    info: Info,
}

/// What marks the devices of one data folder: it is kept in the device, where any later process can read it.
pub(crate) fn label(data: &Path) -> String {
    let path = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    // FNV-1a: short, and the same in every build.
    let hash = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("syncline-csi-{hash:016x}")
}

/// The node of a loop device, made where `/dev` does not bring it.
fn node(number: u32) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let made = mknodat(
        CWD,
        &path,
        FileType::BlockDevice,
        Mode::from_raw_mode(0o660),
        makedev(LOOP_MAJOR, number),
    );
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(path),
        Err(error) => Err(Fault::system("create", &path, error)),
    }
}

fn control() -> Result<File, Fault> {
    let path = Path::new(CONTROL);
    if !path.exists() {
        let number = makedev(10, 237);
        let mode = Mode::from_raw_mode(0o660);
        mknodat(CWD, path, FileType::CharacterDevice, mode, number)
            .map_err(|error| Fault::system("create", path, error))?;
    }
    File::open(path).map_err(|error| Fault::system("open", path, error))
}

/// Loop devices that are in use now.
fn all() -> Result<Vec<Loop>, Fault> {
    let folder = Path::new("/sys/block");
    let entries = fs::read_dir(folder).map_err(|error| Fault::system("list", folder, error))?;
    let mut loops = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("loop"))
            .and_then(|number| number.parse().ok());
        let (Some(number), true) = (number, entry.path().join("loop/backing_file").exists()) else {
            continue;
        };
        let path = node(number)?;
        // One may go meanwhile, then it is none of those in use.
        if let Some(info) = File::open(&path).ok().and_then(|file| status(&file).ok()) {
            loops.push(Loop {
                path,
                read_only: info.flags & READ_ONLY != 0,
                info,
            });
        }
    }
    Ok(loops)
}

fn status(device: &File) -> Result<Info, Errno> {
    // SAFETY: LOOP_GET_STATUS64 writes exactly one `struct loop_info64`, whose layout and size (asserted above) `Info`
    // has; every bit pattern is a valid `Info`.
    unsafe { ioctl(device, Getter::<LOOP_GET_STATUS64, Info>::new()) }
}

/// The loop devices on top of a file.
pub(crate) fn of(file: &Path) -> Result<Vec<Loop>, Fault> {
    let facts = match fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Fault::system("find", file, error))?,
    };
    let mut loops = all()?;
    loops.retain(|each| (each.info.device, each.info.inode) == (facts.dev(), facts.ino()));
    Ok(loops)
}

/// The loop device on top of a file, for writing or not; it is made if there is none.
pub(crate) fn attach(file: &Path, read_only: bool, label: &str) -> Result<PathBuf, Fault> {
    let has = of(file)?
        .into_iter()
        .find(|each| each.read_only == read_only);
    if let Some(has) = has {
        return Ok(has.path);
    }
    let backing = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(file)
        .map_err(|error| Fault::system("open", file, error))?;
    let control = control()?;
    for _ in 0..TRIES {
        // SAFETY: `GetFree` touches no memory.
        let number = unsafe { ioctl(&control, GetFree) }
            .map_err(|error| Fault::system("get a free device of", Path::new(CONTROL), error))?;
        let path = node(number)?;
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&path)
            .map_err(|error| Fault::system("open", &path, error))?;
        match configure(device.as_fd(), &backing, read_only, label) {
            Ok(()) => return Ok(path),
            Err(Errno::BUSY) => {}
            Err(error) => return Err(Fault::system("attach a file to", &path, error)),
        }
    }
    Err(Fault::Aborted(
        "other programs took every free loop device: come again".to_owned(),
    ))
}

fn configure(
    device: BorrowedFd<'_>,
    backing: &File,
    read_only: bool,
    label: &str,
) -> Result<(), Errno> {
    let mut info = NO_INFO;
    info.flags = if read_only { READ_ONLY } else { 0 };
    // The last byte stays zero.
    for (to, from) in info.file_name.iter_mut().take(63).zip(label.bytes()) {
        *to = from;
    }
    let config = Config {
        fd: u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads exactly one `struct loop_config`, whose layout and size (asserted above) `Config`
    // has; its descriptor is borrowed for the length of the call.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, Config>::new(config)) }
}

impl Loop {
    fn open(&self) -> Result<File, Fault> {
        File::open(&self.path).map_err(|error| Fault::system("open", &self.path, error))
    }

    /// Takes the file away from the device; at once, or when the last who has it open closes it.
    pub(crate) fn detach(&self) -> Result<(), Fault> {
        // SAFETY: LOOP_CLR_FD takes no argument.
        match unsafe { ioctl(self.open()?, NoArg::<LOOP_CLR_FD>::new()) } {
            // Gone already.
            Ok(()) | Err(Errno::NXIO) => Ok(()),
            Err(error) => Err(Fault::system("detach", &self.path, error)),
        }
    }

    /// Lets the device see that its file has grown.
    pub(crate) fn grow(&self) -> Result<(), Fault> {
        // SAFETY: LOOP_SET_CAPACITY takes no argument.
        unsafe { ioctl(self.open()?, NoArg::<LOOP_SET_CAPACITY>::new()) }
            .map_err(|error| Fault::system("grow", &self.path, error))
    }

    /// Writes to the file what the kernel has kept in memory.
    pub(crate) fn flush(&self) -> Result<(), Fault> {
        self.open()?
            .sync_all()
            .map_err(|error| Fault::system("flush", &self.path, error))
    }

    fn has_label(&self, label: &str) -> bool {
        let end = self.info.file_name.iter().position(|byte| *byte == 0);
        let name = end.and_then(|end| self.info.file_name.get(..end));
        name == Some(label.as_bytes())
    }
}

/// Detaches all devices with that label, and those that somebody put on top of them (the kubelet does).
pub(crate) fn detach_all(label: &str) -> Result<(), Fault> {
    let loops = all()?;
    let ours: Vec<&Loop> = loops.iter().filter(|each| each.has_label(label)).collect();
    for mine in &ours {
        let rdev = fs::metadata(&mine.path).map_or(0, |facts| facts.rdev());
        for upper in loops.iter().filter(|each| each.info.rdevice == rdev) {
            upper.detach()?;
        }
    }
    ours.iter().try_for_each(|mine| mine.detach())
}
