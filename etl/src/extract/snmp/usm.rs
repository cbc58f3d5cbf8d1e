//! The user-based security model: keys from passwords (RFC 3414, appendix A), signatures
//! (RFC 3414, RFC 7860) and encryption (RFC 3414, RFC 3826, and what net-snmp and Cisco do
//! with AES keys of 192 and 256 bits, which no RFC says).

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::NoPadding;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;

use crate::config::{SnmpAuthProtocol, SnmpPrivacyProtocol, SnmpUser};

/// How much of the repeated password is hashed.
const EXPANDED: usize = 1 << 20;

/// Names the hash of an authentication protocol as a type.
macro_rules! with_hash {
    ($protocol:expr, $Hash:ident => $body:expr) => {
        match $protocol {
            SnmpAuthProtocol::Md5 => {
                type $Hash = md5::Md5;
                $body
            }
            SnmpAuthProtocol::Sha1 => {
                type $Hash = sha1::Sha1;
                $body
            }
            SnmpAuthProtocol::Sha224 => {
                type $Hash = sha2::Sha224;
                $body
            }
            SnmpAuthProtocol::Sha256 => {
                type $Hash = sha2::Sha256;
                $body
            }
            SnmpAuthProtocol::Sha384 => {
                type $Hash = sha2::Sha384;
                $body
            }
            SnmpAuthProtocol::Sha512 => {
                type $Hash = sha2::Sha512;
                $body
            }
        }
    };
}

fn hash(protocol: SnmpAuthProtocol, parts: &[&[u8]]) -> Vec<u8> {
    with_hash!(protocol, Hash => {
        let mut hash = Hash::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().to_vec()
    })
}

/// A password's key, not yet of any agent.
fn expanded(protocol: SnmpAuthProtocol, password: &[u8]) -> Vec<u8> {
    let mut repeated = Vec::with_capacity(EXPANDED + password.len());
    while repeated.len() < EXPANDED && !password.is_empty() {
        repeated.extend_from_slice(password);
    }
    repeated.truncate(EXPANDED);
    hash(protocol, &[&repeated])
}

/// A key as one agent has it.
fn localized(protocol: SnmpAuthProtocol, key: &[u8], engine: &[u8]) -> Vec<u8> {
    hash(protocol, &[key, engine, key])
}

/// Bytes of a signature.
fn digest_len(protocol: SnmpAuthProtocol) -> usize {
    match protocol {
        SnmpAuthProtocol::Md5 | SnmpAuthProtocol::Sha1 => 12,
        SnmpAuthProtocol::Sha224 => 16,
        SnmpAuthProtocol::Sha256 => 24,
        SnmpAuthProtocol::Sha384 => 32,
        SnmpAuthProtocol::Sha512 => 48,
    }
}

/// A user's name and keys, before any agent is known.
pub(super) struct User {
    pub name: Vec<u8>,
    pub context: Vec<u8>,
    auth: Option<(SnmpAuthProtocol, Vec<u8>)>,
    privacy: Option<(SnmpPrivacyProtocol, Vec<u8>)>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

impl User {
    /// Makes keys of the passwords, which takes milliseconds. Without `auth` a `privacy`
    /// has no meaning; the configuration's rules refuse it.
    pub fn new(config: &SnmpUser) -> User {
        let auth = config.auth.as_ref().map(|auth| {
            (auth.protocol, expanded(auth.protocol, auth.password.expose().as_bytes()))
        });
        let privacy = config.privacy.as_ref().zip(config.auth.as_ref()).map(|(privacy, auth)| {
            (privacy.protocol, expanded(auth.protocol, privacy.password.expose().as_bytes()))
        });
        User {
            name: config.user.clone().into_bytes(),
            context: config.context.clone().into_bytes(),
            auth,
            privacy,
        }
    }

    /// What the flags of this user's messages say.
    pub fn flags(&self) -> u8 {
        use super::message::flag::{AUTH, PRIV};
        match (&self.auth, &self.privacy) {
            (None, _) => 0,
            (Some(_), None) => AUTH,
            (Some(_), Some(_)) => AUTH | PRIV,
        }
    }

    /// The keys of one agent.
    pub fn keys(&self, engine: &[u8]) -> Keys {
        let Some((hash, key)) = &self.auth else { return Keys { auth: None, privacy: None } };
        let auth = localized(*hash, key, engine);
        let privacy = self.privacy.as_ref().map(|(protocol, key)| {
            (*protocol, privacy_key(*protocol, *hash, localized(*hash, key, engine), engine))
        });
        Keys { auth: Some((*hash, auth)), privacy }
    }
}

/// A localized key made as long as the cipher wants it.
fn privacy_key(
    protocol: SnmpPrivacyProtocol,
    auth: SnmpAuthProtocol,
    mut key: Vec<u8>,
    engine: &[u8],
) -> Vec<u8> {
    let wanted = match protocol {
        SnmpPrivacyProtocol::Des | SnmpPrivacyProtocol::Aes128 => 16,
        SnmpPrivacyProtocol::Aes192 | SnmpPrivacyProtocol::Aes192c => 24,
        SnmpPrivacyProtocol::Aes256 | SnmpPrivacyProtocol::Aes256c => 32,
    };
    let cisco = matches!(protocol, SnmpPrivacyProtocol::Aes192c | SnmpPrivacyProtocol::Aes256c);
    let mut last = key.clone();
    while key.len() < wanted {
        // Cisco goes on with the last piece as if it were a password, net-snmp hashes all so far.
        last = match cisco {
            true => localized(auth, &expanded(auth, &last), engine),
            false => hash(auth, &[&key]),
        };
        key.extend_from_slice(&last);
    }
    key.truncate(wanted);
    key
}

/// A user's keys as one agent has them.
pub(super) struct Keys {
    auth: Option<(SnmpAuthProtocol, Vec<u8>)>,
    privacy: Option<(SnmpPrivacyProtocol, Vec<u8>)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// What stands for the signature until there is one.
    pub fn blank(&self) -> Vec<u8> {
        vec![0; self.auth.as_ref().map_or(0, |(protocol, _)| digest_len(*protocol))]
    }

    /// Puts the signature into a message, where its blank is.
    pub fn sign(&self, message: &mut [u8], at: usize) {
        let Some((protocol, key)) = &self.auth else { return };
        let end = at + digest_len(*protocol);
        let signature = signature(*protocol, key, &[message]);
        for (byte, signed) in message[at..end].iter_mut().zip(signature) {
            *byte = signed;
        }
    }

    /// Whether a message's signature, at `at`, is of this user and agent.
    pub fn is_signed(&self, message: &[u8], at: usize, digest: &[u8]) -> bool {
        let Some((protocol, key)) = &self.auth else { return false };
        let blank = self.blank();
        if digest.len() != blank.len() {
            return false;
        }
        let parts = [&message[..at], &blank, &message[at + blank.len()..]];
        let wanted = signature(*protocol, key, &parts);
        // Every byte is looked at, so that the time taken tells nothing.
        wanted.len() == digest.len()
            && wanted.iter().zip(digest).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }

    /// Encrypts, where there is a key for it; gives the salt that goes with it. Without one
    /// nothing was encrypted, and nothing may be sent.
    pub fn encrypt(&self, data: &mut Vec<u8>, boots: u32, time: u32, salt: u64) -> Option<Vec<u8>> {
        let Some((protocol, key)) = &self.privacy else { return Some(Vec::new()) };
        if *protocol == SnmpPrivacyProtocol::Des {
            let salt = [boots.to_be_bytes(), (salt as u32).to_be_bytes()].concat();
            data.resize(data.len().next_multiple_of(8), 0);
            let (key, iv) = des_key(key, &salt);
            let length = data.len();
            let cipher = cbc::Encryptor::<des::Des>::new_from_slices(key, &iv).ok()?;
            cipher.encrypt_padded::<NoPadding>(data, length).ok()?;
            return Some(salt);
        }
        let salt = salt.to_be_bytes();
        let iv = [&boots.to_be_bytes()[..], &time.to_be_bytes(), &salt].concat();
        match key.len() {
            16 => aes::<cfb_mode::Encryptor<Aes128>>(key, &iv)?.encrypt(data),
            24 => aes::<cfb_mode::Encryptor<Aes192>>(key, &iv)?.encrypt(data),
            _ => aes::<cfb_mode::Encryptor<Aes256>>(key, &iv)?.encrypt(data),
        }
        Some(salt.to_vec())
    }

    /// Decrypts; nothing, when it cannot have been encrypted by this user's agent.
    pub fn decrypt(&self, data: &[u8], boots: u32, time: u32, salt: &[u8]) -> Option<Vec<u8>> {
        let (protocol, key) = self.privacy.as_ref()?;
        let salt: &[u8; 8] = salt.try_into().ok()?;
        let mut data = data.to_vec();
        if *protocol == SnmpPrivacyProtocol::Des {
            let (key, iv) = des_key(key, salt);
            let cipher = cbc::Decryptor::<des::Des>::new_from_slices(key, &iv).ok()?;
            cipher.decrypt_padded::<NoPadding>(&mut data).ok()?;
            return Some(data);
        }
        let iv = [&boots.to_be_bytes()[..], &time.to_be_bytes(), salt].concat();
        match key.len() {
            16 => aes::<cfb_mode::Decryptor<Aes128>>(key, &iv)?.decrypt(&mut data),
            24 => aes::<cfb_mode::Decryptor<Aes192>>(key, &iv)?.decrypt(&mut data),
            _ => aes::<cfb_mode::Decryptor<Aes256>>(key, &iv)?.decrypt(&mut data),
        }
        Some(data)
    }
}

fn aes<C: KeyIvInit>(key: &[u8], iv: &[u8]) -> Option<C> {
    C::new_from_slices(key, iv).ok()
}

/// The key proper, and the first block's mask.
fn des_key<'k>(key: &'k [u8], salt: &[u8]) -> (&'k [u8], Vec<u8>) {
    let (key, mask) = key.split_at(8);
    (key, mask.iter().zip(salt).map(|(a, b)| a ^ b).collect())
}

fn signature(protocol: SnmpAuthProtocol, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut signature = with_hash!(protocol, Hash => {
        // An HMAC takes keys of any length.
        match Hmac::<Hash>::new_from_slice(key) {
            Ok(mut mac) => {
                for part in parts {
                    mac.update(part);
                }
                mac.finalize().into_bytes().to_vec()
            }
            Err(_) => Vec::new(),
        }
    });
    signature.truncate(digest_len(protocol));
    signature
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Keys, SnmpAuthProtocol, SnmpPrivacyProtocol, privacy_key};
    use super::{expanded, localized};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const ENGINE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// RFC 3414, appendix A.3.
    #[test]
    fn keys_are_those_of_the_standard() {
        let md5 = expanded(SnmpAuthProtocol::Md5, b"maplesyrup");
        assert_eq!(hex(&md5), "9faf3283884e92834ebc9847d8edd963");
        let local = localized(SnmpAuthProtocol::Md5, &md5, &ENGINE);
        assert_eq!(hex(&local), "526f5eed9fcce26f8964c2930787d82b");
        let sha = expanded(SnmpAuthProtocol::Sha1, b"maplesyrup");
        assert_eq!(hex(&sha), "9fb5cc0381497b3793528939ff788d5d79145211");
        let local = localized(SnmpAuthProtocol::Sha1, &sha, &ENGINE);
        assert_eq!(hex(&local), "6695febc9288e36282235fc7151f128497b38f3f");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_encrypted_is_read_by_the_same_key_alone(
            data in proptest::collection::vec(any::<u8>(), 1..100), boots: u32, time: u32, salt: u64,
        ) {
            use SnmpPrivacyProtocol::*;
            for protocol in [Des, Aes128, Aes192, Aes256, Aes192c] {
                let auth = SnmpAuthProtocol::Sha256;
                let keys = |byte: u8| Keys {
                    auth: Some((auth, vec![byte; 32])),
                    privacy: Some((protocol, privacy_key(protocol, auth, vec![byte; 32], &ENGINE))),
                };
                let mut sealed = data.clone();
                let salt = keys(1).encrypt(&mut sealed, boots, time, salt).unwrap_or_default();
                let read = keys(1).decrypt(&sealed, boots, time, &salt).unwrap_or_default();
                prop_assert_eq!(&read[..data.len()], &data[..]);
                let other = keys(2).decrypt(&sealed, boots, time, &salt).unwrap_or_default();
                prop_assert!(data.len() < 8 || other[..data.len()] != data[..]);
                prop_assert_eq!(keys(1).decrypt(&sealed, boots, time, &salt[1..]), None);

                let mut message = data.clone();
                message.splice(0..0, keys(1).blank());
                keys(1).sign(&mut message, 0);
                let digest = message[..24].to_vec();
                prop_assert!(keys(1).is_signed(&message, 0, &digest));
                prop_assert!(!keys(2).is_signed(&message, 0, &digest));
                message[24] ^= 1;
                prop_assert!(!keys(1).is_signed(&message, 0, &digest));
            }
        }
    }
}
