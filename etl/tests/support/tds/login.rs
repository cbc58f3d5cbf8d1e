//! What a client says before its first query: prelogin and LOGIN7.

/// What the client asks for in its prelogin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Only for the login, or everything: the same for a server that encrypts all.
    Wanted,
    NotSupported,
}

const ENCRYPTION: u8 = 1;
const END: u8 = 0xff;
const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NOT_SUPPORTED: u8 = 2;
const ENCRYPT_REQUIRED: u8 = 3;

/// Reads the client's encryption option.
pub fn asked(message: &[u8]) -> Option<Encryption> {
    let mut place = 0;
    while *message.get(place)? != END {
        let option = message.get(place..place + 5)?;
        if option[0] == ENCRYPTION {
            let offset = usize::from(u16::from_be_bytes([option[1], option[2]]));
            return match message.get(offset)? {
                &ENCRYPT_NOT_SUPPORTED => Some(Encryption::NotSupported),
                0 | 1 | 3 => Some(Encryption::Wanted),
                _ => None,
            };
        }
        place += 5;
    }
    None
}

/// The server's side: version 16, and whether it encrypts.
pub fn prelogin_answer(encrypts: bool, asked: Encryption) -> Vec<u8> {
    let encryption = match (encrypts, asked) {
        (true, Encryption::Wanted) => ENCRYPT_ON,
        (true, Encryption::NotSupported) => ENCRYPT_REQUIRED,
        (false, _) => ENCRYPT_NOT_SUPPORTED,
    };
    let options: [(u8, &[u8]); 5] =
        [(0, &[16, 0, 0x0f, 0xa0, 0, 0]), (1, &[encryption]), (2, &[0]), (3, &[]), (4, &[0])];
    let mut offset = options.len() as u16 * 5 + 1;
    let mut message = Vec::new();
    for (token, data) in options {
        message.push(token);
        message.extend(offset.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        offset += data.len() as u16;
    }
    message.push(END);
    message.extend(options.iter().flat_map(|(_, data)| data.iter().copied()));
    message
}

/// What LOGIN7 says.
#[derive(Clone, Debug, Default)]
pub struct Login7 {
    pub user: String,
    pub password: String,
    pub application: String,
    pub database: String,
    pub read_only: bool,
    pub packet_bytes: usize,
}

/// Places of the fields' offsets and lengths.
const USER: usize = 40;
const PASSWORD: usize = 44;
const APPLICATION: usize = 48;
const DATABASE: usize = 68;
const TYPE_FLAGS: usize = 26;
const READ_ONLY_INTENT: u8 = 0x20;

pub fn login(message: &[u8]) -> Option<Login7> {
    let field = |place: usize| -> Option<Vec<u8>> {
        let number =
            |at: usize| Some(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let (offset, length) = (usize::from(number(place)?), usize::from(number(place + 2)?));
        Some(message.get(offset..offset + length * 2)?.to_vec())
    };
    let text = |bytes: Vec<u8>| {
        let units: Vec<u16> =
            bytes.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
        String::from_utf16(&units).ok()
    };
    let mut password = field(PASSWORD)?;
    for byte in &mut password {
        *byte = (*byte ^ 0xa5).rotate_left(4);
    }
    let asked = u32::from_le_bytes(message.get(8..12)?.try_into().ok()?);
    Some(Login7 {
        user: text(field(USER)?)?,
        password: text(password)?,
        application: text(field(APPLICATION)?)?,
        database: text(field(DATABASE)?)?,
        read_only: message.get(TYPE_FLAGS)? & READ_ONLY_INTENT != 0,
        packet_bytes: asked.clamp(512, 32_767) as usize,
    })
}
