//! What is to be done with a request: decided, forwarded under a handle's permit, answered, or
//! refused. Changes nothing.

use crate::sftp::bounds;
use crate::sftp::codec::{Attributes, Builder, Extended, OpenFlags, Request, Status, kind};
use crate::sftp::extension::Extensions;
use crate::sftp::handles::{HandleId, HandleKind, Handles, OpenHandle, Opening};
use crate::sftp::path::{AbsolutePath, PathError, quoted};
use crate::sftp::statement::{Access, LIMITS, Operation, SFTP};

/// What a request's answer must be; an error may take every one's place.
#[derive(Debug)]
pub(crate) enum Awaited {
    Status,
    /// Of content that the target copies by itself to this handle.
    Copied(HandleId),
    Written,
    Closed,
    Attributes,
    Names,
    Entries,
    Extended,
    Handle(Opening),
    Data {
        offset: u64,
        length: u32,
    },
}

/// A request that a permit opened the way for, under its handle.
#[derive(Debug)]
pub(crate) enum Use<'a> {
    Close,
    Read { offset: u64, length: u32 },
    Write { offset: u64, data: &'a [u8] },
    Stat,
    Entries,
    Sync,
    Statvfs,
    Set(Attributes),
}

/// A request that cannot be permitted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    /// As the record has it: what was asked.
    pub(crate) statement: String,
    pub(crate) rule: &'static str,
    /// As the client reads it.
    pub(crate) reason: String,
}

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Planned<'a> {
    /// `packet` goes to the target when the operation is permitted.
    Decide {
        operation: Operation,
        /// Handles that it acts on.
        handles: Vec<HandleId>,
        packet: Vec<u8>,
        awaited: Awaited,
    },
    Use(HandleId, Use<'a>),
    /// The gateway knows the answer.
    Answer(Vec<u8>),
    Refuse(Refused),
}

/// What the target can do, and where its paths begin.
#[derive(Debug)]
pub(crate) struct TargetFacts {
    pub(crate) home: AbsolutePath,
    pub(crate) extensions: Extensions,
    /// The target's answer to `limits@openssh.com`, within the gateway's own limits: bytes of a
    /// packet, of a read, of a write, and open handles.
    pub(crate) limits: Option<[u64; 4]>,
    /// The account there.
    pub(crate) account: String,
}

/// What a plan is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planner<'p> {
    pub(crate) target: &'p TargetFacts,
    pub(crate) handles: &'p Handles,
    /// Opens on their way.
    pub(crate) opening: usize,
}

impl<'p> Planner<'p> {
    pub(crate) fn plan<'a>(self, id: u32, request: &Request<'a>) -> Planned<'a> {
        self.try_plan(id, request).unwrap_or_else(Planned::Refuse)
    }

    fn try_plan<'a>(self, id: u32, request: &Request<'a>) -> Result<Planned<'a>, Refused> {
        match *request {
            Request::Open { path, flags, attributes } => self.open(id, path, flags, attributes),
            Request::Opendir { path } => {
                self.has_room("open_directory", path)?;
                let path = self.path("open_directory", path)?;
                let opening =
                    Opening { path: path.clone(), kind: HandleKind::Directory, mode: None };
                let packet = Builder::new(kind::OPENDIR, id).string(path.as_bytes()).into_packet();
                let operation = Operation::new("open_directory", path, Access::Read).of_handle();
                Ok(decide(operation, packet, Awaited::Handle(opening)))
            }
            Request::Close { handle } => self.with("close", handle, |_| Ok(Use::Close)),
            Request::Read { handle, offset, length } => self.with("read", handle, |open| {
                check_access(open, Access::reads, "read", "reading")?;
                Ok(Use::Read { offset, length: length.min(bounds::READ_BYTES_MAX) })
            }),
            Request::Write { handle, offset, data } => self.with("write", handle, |open| {
                check_access(open, Access::writes, "write", "writing")?;
                Ok(Use::Write { offset, data })
            }),
            Request::Fstat { handle } => self.with("fstat", handle, |_| Ok(Use::Stat)),
            Request::Readdir { handle } => {
                self.with("readdir", handle, |open| match open.opening.kind {
                    HandleKind::Directory => Ok(Use::Entries),
                    HandleKind::File(_) => Err(misused("readdir", "the handle is of a file")),
                })
            }
            Request::Lstat { path } => {
                self.on_path(id, kind::LSTAT, "lstat", path, Access::Read, Awaited::Attributes)
            }
            Request::Stat { path } => {
                self.on_path(id, kind::STAT, "stat", path, Access::Read, Awaited::Attributes)
            }
            Request::Realpath { path } => {
                self.on_path(id, kind::REALPATH, "realpath", path, Access::Read, Awaited::Names)
            }
            Request::Readlink { path } => {
                self.on_path(id, kind::READLINK, "readlink", path, Access::Read, Awaited::Names)
            }
            Request::Remove { path } => {
                self.on_path(id, kind::REMOVE, "remove", path, Access::Write, Awaited::Status)
            }
            Request::Rmdir { path } => {
                self.on_path(id, kind::RMDIR, "rmdir", path, Access::Write, Awaited::Status)
            }
            Request::Setstat { path, attributes } => {
                let path = self.path("setstat", path)?;
                let packet = Builder::new(kind::SETSTAT, id).string(path.as_bytes());
                Ok(set(Operation::new("setstat", path, Access::Write), packet, attributes))
            }
            Request::Mkdir { path, attributes } => {
                let path = self.path("mkdir", path)?;
                let packet = Builder::new(kind::MKDIR, id).string(path.as_bytes());
                Ok(set(Operation::new("mkdir", path, Access::Write), packet, attributes))
            }
            Request::Fsetstat { handle, attributes } => {
                let (handle, open) = self.find("setstat", handle)?;
                if is_part_of_writing(open, attributes) {
                    return Ok(Planned::Use(handle, Use::Set(attributes)));
                }
                let packet = Builder::new(kind::FSETSTAT, id).string(&open.target);
                let path = open.opening.path.clone();
                let operation = Operation::new("setstat", path, Access::Write);
                Ok(on_handles(vec![handle], set(operation, packet, attributes)))
            }
            Request::Rename { from, to } => {
                let (from, to) = (self.path("rename", from)?, self.path("rename", to)?);
                let packet = Builder::new(kind::RENAME, id);
                Ok(rename("rename", packet, from, to))
            }
            Request::Symlink { content, link } => self.symlink(id, content, link),
            Request::Extended { name, request } => self.extended(id, name, &request),
            Request::Unknown { kind } => Err(Refused {
                status: Status::UNSUPPORTED,
                statement: format!("request of type {kind}"),
                rule: SFTP,
                reason: format!("SFTP version 3 has no request of type {kind}"),
            }),
            Request::Unreadable { kind } => Err(Refused {
                status: Status::BAD_MESSAGE,
                statement: format!("unreadable request of type {kind}"),
                rule: SFTP,
                reason: "the request is not what its type says, or sets attributes that are not \
                         known here"
                    .to_owned(),
            }),
        }
    }

    fn open<'a>(
        self,
        id: u32,
        path: &[u8],
        flags: OpenFlags,
        attributes: Attributes,
    ) -> Result<Planned<'a>, Refused> {
        let (name, access) = match (flags.reads(), flags.writes()) {
            (true, true) => ("open_read_write", Access::ReadWrite),
            (false, _) => ("open_write", Access::Write),
            (true, false) => ("open_read", Access::Read),
        };
        self.has_room(name, path)?;
        let path = self.path(name, path)?;
        let words = [
            (OpenFlags::APPEND, " append"),
            (OpenFlags::CREATE, " create"),
            (OpenFlags::TRUNCATE, " truncate"),
            (OpenFlags::EXCLUSIVE, " exclusive"),
        ];
        let mut detail: String =
            words.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, word)| *word).collect();
        detail.push_str(&attributes.words());
        let packet = Builder::new(kind::OPEN, id).string(path.as_bytes()).number(flags.0);
        let packet = attributes.write(packet);
        let mode = mode_of(attributes);
        let opening = Opening { path: path.clone(), kind: HandleKind::File(access), mode };
        let operation = Operation::new(name, path, access).with(detail, mode);
        Ok(decide(operation.of_handle(), packet.into_packet(), Awaited::Handle(opening)))
    }

    /// Whoever makes a link lets everybody through who may use its own path: so it takes the right
    /// to read and to write what the link leads to.
    fn symlink<'a>(self, id: u32, content: &[u8], link: &[u8]) -> Result<Planned<'a>, Refused> {
        const NAME: &str = "symlink";
        let link = self.path(NAME, link)?;
        let leads_to =
            link.parent().join(content).map_err(|error| undecidable(NAME, content, error))?;
        let is_relative = !content.starts_with(b"/");
        if is_relative && !self.target.extensions.is_openssh() {
            return Err(Refused {
                status: Status::UNSUPPORTED,
                statement: format!("{NAME} {}", quoted(leads_to.as_str())),
                rule: SFTP,
                reason:
                    "this target's order of a link's two paths is not known; use absolute paths"
                        .to_owned(),
            });
        }
        let mut detail = String::new();
        let content = match is_relative {
            true => {
                detail = format!(" content={}", quoted(&String::from_utf8_lossy(content)));
                content
            }
            false => leads_to.as_bytes(),
        };
        let packet =
            Builder::new(kind::SYMLINK, id).string(content).string(link.as_bytes()).into_packet();
        let operation = Operation::new(NAME, leads_to.clone(), Access::ReadWrite)
            .and(link, Access::Write)
            .with(detail, None);
        Ok(decide(operation, packet, Awaited::Status))
    }

    fn extended<'a>(
        self,
        id: u32,
        name: &'a [u8],
        request: &Extended<'a>,
    ) -> Result<Planned<'a>, Refused> {
        if *request == Extended::Unknown || !self.target.extensions.has(name) {
            return Err(self.unsupported(name));
        }
        let packet = Builder::new(kind::EXTENDED, id).string(name);
        match *request {
            Extended::PosixRename { from, to } => {
                let (from, to) = (self.path("posix_rename", from)?, self.path("posix_rename", to)?);
                Ok(rename("posix_rename", packet, from, to))
            }
            Extended::Hardlink { from, to } => {
                let (from, to) = (self.path("hardlink", from)?, self.path("hardlink", to)?);
                let packet = packet.string(from.as_bytes()).string(to.as_bytes()).into_packet();
                let operation = Operation::new("hardlink", from, Access::ReadWrite);
                Ok(decide(operation.and(to, Access::Write), packet, Awaited::Status))
            }
            Extended::Statvfs { path } => {
                let path = self.path("statvfs", path)?;
                let packet = packet.string(path.as_bytes()).into_packet();
                let operation = Operation::new("statvfs", path, Access::Read);
                Ok(decide(operation, packet, Awaited::Extended))
            }
            Extended::Lsetstat { path, attributes } => {
                let path = self.path("lsetstat", path)?;
                let packet = packet.string(path.as_bytes());
                Ok(set(Operation::new("lsetstat", path, Access::Write), packet, attributes))
            }
            Extended::Fstatvfs { handle } => self.with("fstatvfs", handle, |_| Ok(Use::Statvfs)),
            Extended::Fsync { handle } => self.with("fsync", handle, |_| Ok(Use::Sync)),
            Extended::CopyData { from, from_offset, length, to, to_offset } => {
                const NAME: &str = "copy_data";
                let (from, source) = self.find(NAME, from)?;
                check_access(source, Access::reads, NAME, "reading")?;
                let (to, sink) = self.find(NAME, to)?;
                check_access(sink, Access::writes, NAME, "writing")?;
                let packet = packet
                    .string(&source.target)
                    .long(from_offset)
                    .long(length)
                    .string(&sink.target)
                    .long(to_offset)
                    .into_packet();
                let detail = format!(" from={from_offset} length={length} to={to_offset}");
                let operation = Operation::new(NAME, source.opening.path.clone(), Access::Read)
                    .and(sink.opening.path.clone(), Access::Write)
                    .with(detail, None);
                Ok(on_handles(vec![from, to], decide(operation, packet, Awaited::Copied(to))))
            }
            Extended::ExpandPath { path } => {
                let path = self.expanded(path)?;
                let packet = packet.string(path.as_bytes()).into_packet();
                let operation = Operation::new("expand_path", path, Access::Read);
                Ok(decide(operation, packet, Awaited::Names))
            }
            Extended::HomeDirectory { username } => {
                if !username.is_empty() && username != self.target.account.as_bytes() {
                    return Err(others_home("home_directory", username));
                }
                let packet = packet.string(username).into_packet();
                let home = self.target.home.clone();
                let operation = Operation::new("home_directory", home, Access::Read);
                Ok(decide(operation, packet, Awaited::Names))
            }
            Extended::NamesById { users, groups } => {
                let packet = packet.string(users).string(groups).into_packet();
                let mut operation =
                    Operation::new("names_by_id", AbsolutePath::root(), Access::Read);
                operation.paths.clear();
                Ok(decide(operation, packet, Awaited::Extended))
            }
            Extended::Limits => match self.target.limits {
                Some(limits) => {
                    let answer = Builder::new(kind::EXTENDED_REPLY, id);
                    let answer = limits.into_iter().fold(answer, Builder::long);
                    Ok(Planned::Answer(answer.into_packet()))
                }
                None => Err(self.unsupported(name)),
            },
            Extended::Unknown => Err(self.unsupported(name)),
        }
    }

    /// `~` and `~/…` are in the login directory; where another account's is, only the target
    /// knows.
    fn expanded(self, path: &[u8]) -> Result<AbsolutePath, Refused> {
        match path {
            b"~" => Ok(self.target.home.clone()),
            [b'~', b'/', rest @ ..] => {
                let rest = [b"./", rest].concat();
                self.path("expand_path", &rest)
            }
            [b'~', ..] => Err(others_home("expand_path", path)),
            path => self.path("expand_path", path),
        }
    }

    fn on_path<'a>(
        self,
        id: u32,
        kind: u8,
        name: &'static str,
        path: &[u8],
        access: Access,
        awaited: Awaited,
    ) -> Result<Planned<'a>, Refused> {
        let path = self.path(name, path)?;
        let packet = Builder::new(kind, id).string(path.as_bytes()).into_packet();
        Ok(decide(Operation::new(name, path, access), packet, awaited))
    }

    fn path(self, name: &str, path: &[u8]) -> Result<AbsolutePath, Refused> {
        self.target.home.join(path).map_err(|error| undecidable(name, path, error))
    }

    fn has_room(self, name: &str, path: &[u8]) -> Result<(), Refused> {
        if self.handles.len() + self.opening < bounds::HANDLES_MAX {
            return Ok(());
        }
        Err(Refused {
            status: Status::FAILURE,
            statement: format!("{name} {}", quoted(&String::from_utf8_lossy(path))),
            rule: LIMITS,
            reason: format!("no more than {} files can be open at once", bounds::HANDLES_MAX),
        })
    }

    fn find(self, name: &str, handle: &[u8]) -> Result<(HandleId, &'p OpenHandle), Refused> {
        self.handles
            .find(handle)
            .ok_or_else(|| misused(name, "the handle is not open in this channel"))
    }

    fn with<'a>(
        self,
        name: &str,
        handle: &[u8],
        used: impl FnOnce(&OpenHandle) -> Result<Use<'a>, Refused>,
    ) -> Result<Planned<'a>, Refused> {
        let (id, open) = self.find(name, handle)?;
        Ok(Planned::Use(id, used(open)?))
    }

    fn unsupported(self, name: &[u8]) -> Refused {
        let name = quoted(&String::from_utf8_lossy(name));
        Refused {
            status: Status::UNSUPPORTED,
            statement: format!("extended {name}"),
            rule: SFTP,
            reason: "the gateway or the target does not know this extension".to_owned(),
        }
    }
}

fn decide<'a>(operation: Operation, packet: Vec<u8>, awaited: Awaited) -> Planned<'a> {
    Planned::Decide { operation, handles: Vec::new(), packet, awaited }
}

fn on_handles(acted_on: Vec<HandleId>, planned: Planned<'_>) -> Planned<'_> {
    match planned {
        Planned::Decide { operation, packet, awaited, handles: _ } => {
            Planned::Decide { operation, handles: acted_on, packet, awaited }
        }
        other @ (Planned::Use(..) | Planned::Answer(_) | Planned::Refuse(_)) => other,
    }
}

fn set<'a>(operation: Operation, packet: Builder, attributes: Attributes) -> Planned<'a> {
    let packet = attributes.write(packet).into_packet();
    let operation = operation.with(attributes.words(), mode_of(attributes));
    decide(operation, packet, Awaited::Status)
}

fn rename<'a>(
    name: &'static str,
    packet: Builder,
    from: AbsolutePath,
    to: AbsolutePath,
) -> Planned<'a> {
    let packet = packet.string(from.as_bytes()).string(to.as_bytes()).into_packet();
    let operation = Operation::new(name, from, Access::Write).and(to, Access::Write);
    decide(operation, packet, Awaited::Status)
}

/// Permission bits, without the file's type.
fn mode_of(attributes: Attributes) -> Option<u32> {
    attributes.permissions.map(|permissions| permissions & 0o7777)
}

/// Whether setting these attributes is within what opening the file for writing was permitted for:
/// its size, its times, and the mode that the open named.
fn is_part_of_writing(open: &OpenHandle, attributes: Attributes) -> bool {
    let is_writable = match open.opening.kind {
        HandleKind::File(access) => access.writes(),
        HandleKind::Directory => false,
    };
    let mode = mode_of(attributes);
    is_writable && attributes.owners.is_none() && (mode.is_none() || mode == open.opening.mode)
}

fn check_access(
    open: &OpenHandle,
    is_enough: impl Fn(Access) -> bool,
    name: &str,
    purpose: &str,
) -> Result<(), Refused> {
    match open.opening.kind {
        HandleKind::File(access) if is_enough(access) => Ok(()),
        HandleKind::File(_) => Err(misused(name, &format!("the file is not open for {purpose}"))),
        HandleKind::Directory => Err(misused(name, "the handle is of a directory")),
    }
}

fn misused(name: &str, reason: &str) -> Refused {
    Refused {
        status: Status::FAILURE,
        statement: format!("{name} with a wrong handle"),
        rule: SFTP,
        reason: reason.to_owned(),
    }
}

fn undecidable(name: &str, path: &[u8], error: PathError) -> Refused {
    let shown = path.get(..bounds::PATH_BYTES_MAX).unwrap_or(path);
    Refused {
        status: Status::PERMISSION_DENIED,
        statement: format!("{name} {}", quoted(&String::from_utf8_lossy(shown))),
        rule: match error {
            PathError::NotUtf8 | PathError::HasNul => SFTP,
            PathError::TooLong | PathError::TooDeep => LIMITS,
        },
        reason: error.to_string(),
    }
}

fn others_home(name: &str, asked: &[u8]) -> Refused {
    Refused {
        status: Status::UNSUPPORTED,
        statement: format!("{name} {}", quoted(&String::from_utf8_lossy(asked))),
        rule: SFTP,
        reason: "only the login directory of the target's own account can be asked for".to_owned(),
    }
}
