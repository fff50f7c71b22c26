//! SFTP packets, written and read by hand: nothing here comes from the crate under test.

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl Packet {
    pub(crate) fn new(kind: u8, id: u32) -> Self {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&id.to_be_bytes());
        Self(bytes)
    }

    pub(crate) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn str(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut packet = self.u32(text.len() as u32);
        packet.0.extend_from_slice(text);
        packet
    }

    /// With its length in front.
    pub(crate) fn framed(&self) -> Vec<u8> {
        let mut bytes = (self.0.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.0);
        bytes
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[0]
    }

    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.number(1)
    }

    pub(crate) fn bytes(&self, at: usize) -> Vec<u8> {
        let length = self.number(at) as usize;
        self.0[at + 4..at + 4 + length].to_vec()
    }

    /// The code of a status.
    pub(crate) fn status(&self) -> u32 {
        assert_eq!(self.kind(), STATUS, "{self:?}");
        self.number(5)
    }

    /// The text of a status.
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.kind(), STATUS, "{self:?}");
        String::from_utf8(self.bytes(9)).expect("UTF-8")
    }

    /// A handle, or the content of a read.
    pub(crate) fn value(&self) -> Vec<u8> {
        assert!([HANDLE, DATA].contains(&self.kind()), "{self:?} {:?}", self.0);
        self.bytes(5)
    }
}

pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
pub(crate) const READ: u8 = 5;
pub(crate) const WRITE: u8 = 6;
pub(crate) const LSTAT: u8 = 7;
pub(crate) const FSTAT: u8 = 8;
pub(crate) const SETSTAT: u8 = 9;
pub(crate) const FSETSTAT: u8 = 10;
pub(crate) const OPENDIR: u8 = 11;
pub(crate) const READDIR: u8 = 12;
pub(crate) const REMOVE: u8 = 13;
pub(crate) const MKDIR: u8 = 14;
pub(crate) const RMDIR: u8 = 15;
pub(crate) const REALPATH: u8 = 16;
pub(crate) const STAT: u8 = 17;
pub(crate) const RENAME: u8 = 18;
pub(crate) const READLINK: u8 = 19;
pub(crate) const SYMLINK: u8 = 20;
pub(crate) const STATUS: u8 = 101;
pub(crate) const HANDLE: u8 = 102;
pub(crate) const DATA: u8 = 103;
pub(crate) const NAME: u8 = 104;
pub(crate) const ATTRS: u8 = 105;
pub(crate) const EXTENDED: u8 = 200;
pub(crate) const EXTENDED_REPLY: u8 = 201;

pub(crate) const READING: u32 = 0x1;
/// Write, create, truncate.
pub(crate) const WRITING: u32 = 0x1a;

pub(crate) fn init() -> Packet {
    Packet::new(1, 3)
}

pub(crate) fn open(id: u32, path: &str, flags: u32) -> Packet {
    Packet::new(OPEN, id).str(path).u32(flags).u32(0)
}

pub(crate) fn close(id: u32, handle: &[u8]) -> Packet {
    Packet::new(CLOSE, id).str(handle)
}

pub(crate) fn read(id: u32, handle: &[u8], offset: u64, length: u32) -> Packet {
    Packet::new(READ, id).str(handle).u64(offset).u32(length)
}

pub(crate) fn write(id: u32, handle: &[u8], offset: u64, data: &[u8]) -> Packet {
    Packet::new(WRITE, id).str(handle).u64(offset).str(data)
}

pub(crate) fn on(kind: u8, id: u32, path: &str) -> Packet {
    Packet::new(kind, id).str(path)
}

pub(crate) fn extended(id: u32, name: &str) -> Packet {
    Packet::new(EXTENDED, id).str(name)
}
