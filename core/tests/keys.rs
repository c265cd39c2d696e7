//! Who can open what: slots, wrong secrets, writers without a secret, changed keys, and descriptors that were tampered with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use setpiece_core::format::{Argon2Cost, CipherId, RepoDescriptor, SetMeta, SlotKind, WrapKind};
use setpiece_core::model::{RepoId, SetId, Uuid};
use setpiece_core::transform::{
    Identity, KeyFile, Passphrase, Recipient, Secret, SlotRequest, Vault, add_slot, decode_meta, encode_meta,
    new_descriptor, peek_keys, plain_descriptor, remove_slot, rotate,
};
use setpiece_core::{Error, ErrorKind, Result};

const REPO: RepoId = RepoId(Uuid([1; 16]));
const SET: SetId = SetId(Uuid([2; 16]));

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn identity() -> Identity {
    Identity::from_bytes([7; 32])
}

fn by_passphrase() -> SlotRequest {
    let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 2 };
    SlotRequest::Passphrase { label: "person".into(), passphrase: passphrase("open sesame"), cost }
}

fn by_key_file(byte: u8) -> SlotRequest {
    SlotRequest::KeyFile { label: "host".into(), key: KeyFile::from_bytes([byte; 32]) }
}

fn by_recipient(recipient: Recipient) -> SlotRequest {
    SlotRequest::Recipient { label: "vault".into(), recipient }
}

fn key_file(byte: u8) -> Secret {
    Secret::KeyFile(KeyFile::from_bytes([byte; 32]))
}

#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, words: &str) {
    let error: Error = result.map(drop).unwrap_err();
    assert!(
        error.kind() == kind && error.to_string().contains(words),
        "{kind:?} {words:?} expected: {error:?} {error}"
    );
}

/// The descriptor as it comes back from a medium.
fn stored(descriptor: &RepoDescriptor) -> RepoDescriptor {
    RepoDescriptor::decode(&descriptor.encode().unwrap()).unwrap()
}

/// Whether the vault opens what `writer` writes, and gets the same key.
fn reads(vault: &Vault, writer: &Vault) -> bool {
    let (key, keys) = writer.new_set(SET).unwrap().unwrap();
    vault.open_set(SET, &keys).is_ok_and(|opened| opened.as_bytes() == key.as_bytes())
}

#[test]
fn every_kind_of_slot_opens_the_repository() {
    let slots = [by_passphrase(), by_key_file(3), by_recipient(identity().recipient())];
    let (descriptor, made) = new_descriptor(REPO, &slots).unwrap();
    let secrets = [Secret::Passphrase(passphrase("open sesame\n")), key_file(3), Secret::Identity(identity())];
    for secret in &secrets {
        let vault = Vault::open(&stored(&descriptor), std::slice::from_ref(secret)).unwrap();
        assert!(vault.can_read() && reads(&vault, &made) && reads(&made, &vault), "{secret:?}");
    }
    let all = Vault::open(&descriptor, &secrets).unwrap();
    assert!(reads(&all, &made));
}

#[test]
fn wrong_secrets_and_none_are_refused() {
    let (descriptor, _) = new_descriptor(REPO, &[by_passphrase(), by_key_file(3)]).unwrap();
    let open = |secrets: &[Secret]| Vault::open(&descriptor, secrets);
    refused(open(&[Secret::Passphrase(passphrase("open sesam"))]), ErrorKind::Key, "the passphrase does not open");
    refused(open(&[key_file(4)]), ErrorKind::Key, "the key file does not open");
    refused(open(&[Secret::Identity(identity())]), ErrorKind::Key, "the private key does not open");
    refused(open(&[key_file(3), key_file(4)]), ErrorKind::Key, "the key file does not open");
    refused(open(&[]), ErrorKind::Key, "no secret was given");
}

#[test]
fn a_repository_without_encryption_takes_no_key_and_makes_none() {
    let (descriptor, made) = plain_descriptor(REPO);
    refused(Vault::open(&descriptor, &[key_file(3)]), ErrorKind::Key, "not encrypted, but a key was given");
    assert!(made.new_set(SET).unwrap().is_none() && made.can_read() && !made.is_encrypted());
    refused(add_slot(&descriptor, &made, &by_key_file(3)), ErrorKind::Key, "not encrypted");
    refused(rotate(&descriptor, &made, &[by_key_file(3)]), ErrorKind::Key, "not encrypted");
    refused(new_descriptor(REPO, &[]), ErrorKind::Key, "needs a key that opens it");
}

#[test]
fn a_host_without_a_secret_writes_what_only_others_read() {
    let (descriptor, owner) = new_descriptor(REPO, &[by_key_file(3), by_recipient(identity().recipient())]).unwrap();
    let host = Vault::open(&stored(&descriptor), &[]).unwrap();
    assert!(!host.can_read() && host.is_encrypted());
    let (_, keys) = host.new_set(SET).unwrap().unwrap();
    refused(host.open_set(SET, &keys), ErrorKind::Key, "no secret at hand opens");
    assert!(matches!(keys.wraps[0].kind, WrapKind::EpochPublic { .. }));
    let reader = Vault::open(&descriptor, &[Secret::Identity(identity())]).unwrap();
    assert!(reads(&reader, &host) && reads(&owner, &host));
    refused(add_slot(&descriptor, &host, &by_key_file(9)), ErrorKind::Key, "needs a secret");
    assert!(host.clone().pinned(&[identity().recipient()]).is_ok());
    refused(host.pinned(&[Identity::from_bytes([8; 32]).recipient()]), ErrorKind::Key, "not trusted");
}

/// A host without a secret cannot prove the descriptor. With the recipients pinned it wrote to the epoch's public key as well,
/// which whoever replaced the descriptor could have made their own: they read every later set. And it took a descriptor
/// that was replaced by one without encryption, and wrote in the clear. Now the recipients it was told are all it
/// writes to, and no encryption is an error.
#[test]
fn a_host_told_whom_to_trust_writes_to_nobody_else() {
    let own = identity().recipient();
    let (genuine, owner) = new_descriptor(REPO, &[by_key_file(3), by_recipient(own)]).unwrap();
    let (theirs, thief) = new_descriptor(REPO, &[by_key_file(66)]).unwrap();
    let mut forged = genuine.clone();
    forged.epochs[0].public = theirs.epochs[0].public;
    let host = Vault::open(&stored(&forged), &[]).unwrap().pinned(&[own]).unwrap();
    assert!(!reads(&thief, &host));
    let reader = Vault::open(&genuine, &[Secret::Identity(identity())]).unwrap();
    assert!(reads(&reader, &host));

    let (plain, _) = plain_descriptor(REPO);
    refused(Vault::open(&plain, &[]).unwrap().pinned(&[own]), ErrorKind::Key, "not encrypted, but a recipient");

    let proven = Vault::open(&genuine, &[key_file(3)]).unwrap().pinned(&[own]).unwrap();
    assert!(reads(&owner, &proven), "a host with a secret has proven the descriptor and writes to all of its keys");
}

#[test]
fn the_wraps_of_a_set_open_no_other_set() {
    let (_, vault) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (_, mut keys) = vault.new_set(SET).unwrap().unwrap();
    let other = SetId(Uuid([9; 16]));
    refused(vault.open_set(other, &keys), ErrorKind::Damaged, "keys of set");
    keys.set = other;
    refused(vault.open_set(other, &keys), ErrorKind::Key, "no secret at hand opens");
}

#[test]
fn slots_are_added_and_removed_but_not_the_last() {
    let (first, vault) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let second = add_slot(&first, &vault, &by_key_file(4)).unwrap();
    assert_eq!((second.generation, second.epochs[0].slots.len()), (2, 2));
    let by_new = Vault::open(&stored(&second), &[key_file(4)]).unwrap();
    assert!(reads(&by_new, &vault));
    let third = remove_slot(&second, &by_new, first.epochs[0].slots[0].id).unwrap();
    refused(Vault::open(&stored(&third), &[key_file(3)]), ErrorKind::Key, "does not open");
    assert!(Vault::open(&stored(&third), &[key_file(4)]).is_ok());
    refused(remove_slot(&third, &by_new, 77), ErrorKind::NotFound, "no slot 77");
    let last = third.epochs[0].slots[0].id;
    refused(remove_slot(&third, &by_new, last), ErrorKind::Key, "the last way");
    let fourth = add_slot(&third, &by_new, &by_key_file(5)).unwrap();
    assert!(fourth.epochs[0].slots[1].id > last, "numbers of slots are not given twice");
}

#[test]
fn after_a_rotation_new_secrets_open_old_sets_and_old_secrets_open_nothing() {
    let (first, before) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (key, keys) = before.new_set(SET).unwrap().unwrap();
    let (second, _) = rotate(&first, &before, &[by_key_file(4)]).unwrap();
    let (third, _) = rotate(&second, &Vault::open(&second, &[key_file(4)]).unwrap(), &[by_passphrase()]).unwrap();
    let third = stored(&third);
    for old in [3, 4] {
        refused(Vault::open(&third, &[key_file(old)]), ErrorKind::Key, "does not open");
    }
    let after = Vault::open(&third, &[Secret::Passphrase(passphrase("open sesame"))]).unwrap();
    assert_eq!(after.open_set(SET, &keys).unwrap().as_bytes(), key.as_bytes());
    let anew = after.rewrap(SET, &keys).unwrap();
    assert_eq!((anew.generation, anew.wraps[0].epoch), (1, 3));
    assert_eq!(after.open_set(SET, &anew).unwrap().as_bytes(), key.as_bytes());
    refused(before.open_set(SET, &anew), ErrorKind::Key, "no secret at hand opens");
}

/// A way to forge a descriptor; the public key is that of a thief.
type Forgery = fn(&mut RepoDescriptor, Recipient);

/// Whoever can write to the medium can make every checksum right again; the proof needs the key.
#[test]
fn a_descriptor_changed_without_the_key_is_found_out() {
    let slots = [by_key_file(3), by_passphrase(), by_recipient(identity().recipient())];
    let (genuine, _) = new_descriptor(REPO, &slots).unwrap();
    let thief = Identity::from_bytes([66; 32]).recipient();
    let changes: [(&str, Forgery); 6] = [
        ("recipient", |descriptor, thief| {
            if let SlotKind::Recipient { public, .. } = &mut descriptor.epochs[0].slots[2].kind {
                *public = thief.0;
            }
        }),
        ("public key", |descriptor, thief| descriptor.epochs[0].public = thief.0),
        ("label", |descriptor, _| descriptor.epochs[0].slots[1].label.push('!')),
        ("slot taken out", |descriptor, _| drop(descriptor.epochs[0].slots.pop())),
        ("generation", |descriptor, _| descriptor.generation = 8),
        ("proof", |descriptor, _| descriptor.mac = Some([0; 32])),
    ];
    for (what, change) in changes {
        let mut forged = genuine.clone();
        change(&mut forged, thief);
        let opened = Vault::open(&stored(&forged), &[key_file(3)]);
        assert_eq!(opened.err().map(|error| error.kind()), Some(ErrorKind::Damaged), "{what}");
    }
    let mut without = genuine;
    (without.cipher, without.mac) = (CipherId::None, None);
    refused(without.encode(), ErrorKind::Damaged, "do not fit its choice of encryption");
}

/// A slot that asks for more memory or time than any honest one does not get it.
#[test]
fn the_cost_of_a_passphrase_is_bounded() {
    let (mut descriptor, _) = new_descriptor(REPO, &[by_passphrase()]).unwrap();
    for (memory_kib, passes, lanes) in [(u32::MAX, 1, 1), (64, 65, 1), (64, 0, 1), (4096, 1, 17), (7, 1, 1)] {
        let cost = Argon2Cost { memory_kib, passes, lanes };
        descriptor.epochs[0].slots[0].kind = SlotKind::Passphrase { cost };
        refused(descriptor.encode(), ErrorKind::Unsupported, "out of range");
        let opened = Vault::open(&descriptor, &[Secret::Passphrase(passphrase("open sesame"))]);
        refused(opened, ErrorKind::Unsupported, "out of range");
    }
}

fn meta() -> SetMeta {
    use setpiece_core::format::{Compression, SECTION};
    use setpiece_core::model::{
        BranchHistory, BranchId, Consistency, Level, Lsn, Scope, SetSummary, SourceId, Timestamp,
    };
    let summary = SetSummary {
        id: SET,
        name: "set".into(),
        source: SourceId(Uuid([3; 16])),
        source_name: "source".into(),
        engine: "none".into(),
        level: Level::Full,
        scope: Scope::Tablespace("MAIN".into()),
        base: None,
        consistency: Consistency::NoLogNeeded,
        online: false,
        branch: BranchHistory::first(BranchId(1)),
        nodes: Vec::new(),
        bak_end_lsn: Lsn(1),
        began: Timestamp(-1),
        ended: Timestamp(1),
        bad_pages: 0,
        marks: None,
    };
    SetMeta {
        summary,
        tool: "test".into(),
        tablespaces: Vec::new(),
        files: Vec::new(),
        pieces: Vec::new(),
        log: Vec::new(),
        parameters: Vec::new(),
        key_files: Vec::new(),
        cookie: Vec::new(),
        decisions: Vec::new(),
        bad_pages: Vec::new(),
        compression: Compression::Fast,
        cipher: CipherId::None,
        section: SECTION,
        raw_bytes: 0,
        stored_bytes: 0,
        captured: false,
        channels: 1,
        put_back: None,
    }
}

#[test]
fn metadata_must_be_sealed_exactly_when_its_repository_is() {
    let (_, plain) = plain_descriptor(REPO);
    let (_, vault) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (_, stranger) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (key, keys) = vault.new_set(SET).unwrap().unwrap();
    let open = encode_meta(&meta(), None).unwrap();
    let sealed = encode_meta(&meta(), Some((&keys, &key))).unwrap();
    assert_eq!(decode_meta(&open, &plain, None).unwrap().meta, meta());
    let opened = decode_meta(&sealed, &vault, None).unwrap();
    assert_eq!((&opened.meta, opened.key.unwrap().as_bytes()), (&meta(), key.as_bytes()));
    refused(decode_meta(&open, &vault, None), ErrorKind::Damaged, "not encrypted in a repository that is");
    refused(decode_meta(&sealed, &plain, None), ErrorKind::Damaged, "encrypted in a repository that is not");
    refused(decode_meta(&sealed, &stranger, None), ErrorKind::Key, "no secret at hand opens");
    assert_eq!(peek_keys(&sealed).unwrap(), Some(keys));
    assert_eq!(peek_keys(&open).unwrap(), None);
    assert!(!sealed.windows(6).any(|window| window == b"source"), "nothing of the body is readable");
}

#[test]
fn metadata_is_opened_by_its_newest_keys_and_by_those_of_no_other_content() {
    let (_, vault) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (key, keys) = vault.new_set(SET).unwrap().unwrap();
    let (other_key, other_keys) = vault.new_set(SET).unwrap().unwrap();
    let sealed = encode_meta(&meta(), Some((&keys, &key))).unwrap();
    let newer = vault.rewrap(SET, &keys).unwrap();
    assert!(decode_meta(&sealed, &vault, Some(&newer)).is_ok());
    assert_ne!(key.as_bytes(), other_key.as_bytes());
    refused(
        decode_meta(&sealed, &vault, Some(&other_keys)),
        ErrorKind::Key,
        "not the one that the metadata was sealed",
    );
}

#[test]
fn one_flipped_bit_anywhere_in_sealed_metadata_is_noticed() {
    let (_, vault) = new_descriptor(REPO, &[by_key_file(3)]).unwrap();
    let (key, keys) = vault.new_set(SET).unwrap().unwrap();
    let sealed = encode_meta(&meta(), Some((&keys, &key))).unwrap();
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(decode_meta(&damaged, &vault, None).is_err(), "byte {at}");
    }
    for len in 0..sealed.len() {
        refused(decode_meta(&sealed[..len], &vault, None), ErrorKind::Damaged, "");
    }
}
