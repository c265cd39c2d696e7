#!/usr/bin/env python3
"""An independent reader of Setpiece repositories, written from docs/FORMAT.md alone.

SET is a name, an id, or "latest". TARGET must not exist. The key file holds a key or a private key (sps1...). Every
frame of every piece of the chain is opened and compared with its index; then the files of the set are written. Redo is
checked where it lies in the chain, but not applied. Fails loudly, and leaves no target, when anything is wrong.
"""
import argparse, contextlib, hmac, io, os, re, shutil, struct, sys, uuid, zlib
from pathlib import Path

import cbor2, lz4.block, zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_RAW, MAX_STORED, MAX_RECORD, MAX_META, SECTION = 16 << 20, 17 << 20, 1 << 20, 256 << 20, 1 << 30
PAGES, SEGMENT, ROOT = 1, 3, 4
LIBRARIES = (struct.error, cbor2.CBORDecodeError, lz4.block.LZ4BlockError, zstandard.ZstdError)

class Refused(Exception):
    """What is read is damaged, of an unknown format, or sealed with another key."""

def need(condition, what):
    if not condition:
        raise Refused(what)

def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]

def cbor(data, what):
    stream = io.BytesIO(data)
    record = cbor2.load(stream)
    need(not stream.read(), f"{what}: bytes behind the record")
    return record

def fixed(data, magic, length, what):
    """Checks what all headers have in common (section 2)."""
    need(data[:8] == magic and len(data) >= length, f"{what}: wrong magic, or cut short")
    major, minor, header_len, _, incompatible = struct.unpack_from("<HHIII", data, 8)
    need(major == 1, f"{what}: format {major}.{minor} is not supported")
    need(zlib.crc32(data[: length - 4]) == u32(data, length - 4), f"{what}: checksum of the header")
    need(incompatible == 0 and header_len == length, f"{what}: unknown features {incompatible:#x}, or length")

def small_object(path, magic, generation):
    """The id and the record of a descriptor or of a set's keys, and the record's bytes."""
    what, data = str(path), path.read_bytes()
    fixed(data, magic, 64, what)
    need(not any(data[48:60]) and u32(data, 40) == generation, f"{what}: header")
    body = data[64:-4]
    need(len(body) == u32(data, 44) <= MAX_RECORD, f"{what}: length")
    need(zlib.crc32(body) == u32(data, len(data) - 4), f"{what}: checksum of the record")
    record = cbor(body, what)
    need(record[1] == generation and record[0] == data[24:40], f"{what}: record and header differ")
    return record, body

def hkdf(key, salt, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt or None, info=info).derive(key)

def unseal(key, nonce, aad, sealed, what):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except (InvalidTag, ValueError) as error:
        raise Refused(f"{what}: the seal is broken, or this is the wrong key") from error

def public_of(private):
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(*raw)

def agreed(private, ephemeral):
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(ephemeral))
    return hkdf(shared, ephemeral, b"setpiece x25519 wrap v1" + public_of(private))

def read_secret(path):
    """The kind of a key and its 32 bytes, from its text form."""
    text = Path(path).read_text().strip()
    match = re.fullmatch(r"(setpiece-key-1 |sps1)([0-9a-fA-F]{64}) ?([0-9a-fA-F]{8})", text)
    need(match, f"{path}: neither a key file nor a private key")
    word, key = match[1].strip(), bytes.fromhex(match[2])
    need(zlib.crc32(word.encode() + key) == int(match[3], 16), f"{path}: mistyped")
    return word, key

def open_epochs(descriptor, body, secret):
    """The keys of all epochs, by number (section 7)."""
    current, (word, key), newest = descriptor[3][0], secret, None
    bound = lambda epoch, slot: descriptor[0] + struct.pack("<II", epoch[0], slot[0])
    for slot in current[1]:
        kind, fields = slot[2]
        if kind == 1 and word == "setpiece-key-1":
            by = hkdf(key, slot[3], b"setpiece key file slot v1")
        elif kind == 2 and word == "sps1" and fields[0] == public_of(key):
            by = agreed(key, fields[1])
        else:
            continue
        with contextlib.suppress(Refused):
            newest = unseal(by, bytes(12), bound(current, slot), slot[4], "slot")
    need(newest, "the key does not open the repository")
    need(body.count(descriptor[5]) == 1, "descriptor: no proof")
    proven = body.replace(descriptor[5], bytes(32))
    proof = hmac.digest(hkdf(newest, b"", b"setpiece descriptor mac v1"), proven, "sha256")
    need(hmac.compare_digest(proof, descriptor[5]), "descriptor: changed by someone without its key")
    need(public_of(hkdf(newest, b"", b"setpiece epoch identity v1")) == current[2], "descriptor: public key")
    keys = {current[0]: newest}
    for epoch in descriptor[3][1:]:
        slot = epoch[1][0]
        by = hkdf(keys[slot[2][1][0]], slot[3], b"setpiece epoch slot v1")
        keys[epoch[0]] = unseal(by, bytes(12), bound(epoch, slot), slot[4], "epoch")
    return keys

def open_set_key(keys, set_id, epochs):
    need(keys[0] == set_id, "keys of another set")
    for wrap in keys[2]:
        (kind, fields), epoch = wrap[1], epochs.get(wrap[0])
        if epoch and kind == 0:
            by = hkdf(epoch, fields[0], b"setpiece set key wrap v1")
        elif epoch and kind == 1:
            by = agreed(hkdf(epoch, b"", b"setpiece epoch identity v1"), fields[0])
        else:
            continue
        return unseal(by, bytes(12), set_id + struct.pack("<I", wrap[0]), wrap[2], "key of the set")
    raise Refused("no key at hand opens the set")

def object_key(set_key, salt, what, bound, commitment):
    need(hkdf(set_key, salt, b"setpiece %s commitment v1" % what + bound) == commitment, "wrong key")
    return hkdf(set_key, salt, b"setpiece %s key v1" % what)

def decompress(codec, data, length, what):
    need(length <= MAX_META and codec in (0, 1, 2), f"{what}: codec or length")
    if codec == 1:
        data = lz4.block.decompress(data, uncompressed_size=length)
    elif codec == 2:
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(length + 1)
    need(len(data) == length, f"{what}: {len(data)} bytes instead of {length}")
    return data

def read_meta(directory, epochs):
    """The metadata of a set, and the key of its pieces (section 5)."""
    path, set_id = directory / "set.meta", uuid.UUID(directory.name).bytes
    what, data = str(path), path.read_bytes()
    fixed(data, b"SPMETA\n\0", 160, what)
    cipher, keys_len, body_len, raw_len = struct.unpack_from("<B3xIQQ", data, 40)
    need(data[24:40] == set_id and not any(data[41:44]) and not any(data[128:156]), f"{what}: header")
    need(cipher in (0, 1) and (cipher == 0) == (keys_len == 0), f"{what}: cipher")
    need((cipher == 1) == (epochs is not None), f"{what}: is not encrypted as its repository is")
    need(len(data) == 160 + keys_len + 4 + body_len + 4 and raw_len <= MAX_META, f"{what}: lengths")
    wraps, body = data[160 : 160 + keys_len], data[164 + keys_len : -4]
    need(zlib.crc32(wraps) == u32(data, 160 + keys_len), f"{what}: checksum of the keys")
    need(zlib.crc32(body) == u32(data, len(data) - 4), f"{what}: checksum of the body")
    set_key = None
    if cipher:
        newer = max(directory.glob("keys." + 8 * "[0-9]"), default=None)
        keys = small_object(newer, b"SPKEYS\n\0", int(newer.suffix[1:]))[0] if newer else cbor(wraps, what)
        set_key = open_set_key(keys, set_id, epochs)
        key = object_key(set_key, data[64:96], b"meta", data[:64], data[96:128])
        body = unseal(key, bytes(12), data[:160], body, what)
    meta = cbor(decompress(2, body, raw_len, what), what)
    need(meta[0][0] == set_id and meta[13] == SECTION, f"{what}: contradicts itself")
    return meta, set_key

class Piece:
    """A piece, with every frame checked and compared with the index (section 4)."""

    def __init__(self, path, set_id, info, set_key):
        self.what, self.place = str(path), set_id + struct.pack("<I", info[0])
        need(path.stat().st_size == info[3] >= 192, f"{path}: length")
        self.file = path.open("rb")
        header = self.file.read(128)
        fixed(header, b"SPPIECE\n", 128, self.what)
        found = struct.unpack_from("<16sIHBB32s", header, 24)
        need(found == (set_id, info[0], info[1], info[2], int(set_key is not None), info[6]), f"{path}: another piece")
        need(not any(header[112:124]) and (set_key or not any(header[80:112])), f"{path}: reserved bytes")
        self.key = set_key and object_key(set_key, header[48:80], b"piece", header[:48], header[80:112])
        self.tables = self.scan(info)

    def scan(self, info):
        """The tables of all frames of pages, with the offsets of the frames."""
        at, number, found, indexed, root = 128, 0, [], [], None
        while root is None:
            kind, content, total = self.frame(at, number)
            if kind == info[2]:
                found.append((number, at, total, len(content), kind - 1, self.table(content)[1]))
            elif kind == SEGMENT:
                indexed += cbor(content, self.what)
            else:
                need(kind == ROOT, f"{self.what}: pages and redo in one piece")
                root = (at, total, cbor(content, self.what))
            at, number = at + total, number + 1
        trailer = self.file.read(65)
        need(len(trailer) == 64 and trailer[:8] == b"SPTRAIL\n", f"{self.what}: no trailer at {at}")
        need(zlib.crc32(trailer[:60]) == u32(trailer, 60), f"{self.what}: checksum of the trailer")
        expected = struct.pack("<QIIQ", root[0], root[1], info[4], info[3]) + self.place + bytes(8)
        need(trailer[8:60] == expected and number == info[4], f"{self.what}: the trailer does not fit")
        entries = [(*(e[key] for key in range(4)), e[4][0], e[4][1][0]) for e in indexed]
        need(entries == found and len(found) == root[2][1], f"{self.what}: the index does not fit the frames")
        return [(entry[1], entry[5]) for entry in found if info[2] == PAGES]

    def frame(self, at, number=None):
        """Kind and content of the frame at an offset, and its length."""
        what = f"{self.what} at offset {at}"
        self.file.seek(at)
        header = self.file.read(32)
        need(len(header) == 32 and zlib.crc32(header[:28]) == u32(header, 28), f"{what}: checksum of a header")
        magic, kind, codec, flags, found, stored, raw, reserved, crc = struct.unpack_from("<4sBBHIIIII", header)
        need(magic == b"SPFR" and kind in range(1, 5) and flags == reserved == 0, f"{what}: unknown frame")
        need(number in (None, found), f"{what}: frame {found} instead of {number}")
        need(stored <= MAX_STORED and raw <= MAX_RAW, f"{what}: lengths")
        payload = self.file.read(stored)
        need(len(payload) == stored and zlib.crc32(payload) == crc, f"{what}: checksum")
        if self.key:
            payload = unseal(self.key, bytes(4) + struct.pack("<Q", found), self.place + header[:24], payload, what)
        return kind, decompress(codec, payload, raw, what), 32 + stored

    def table(self, content):
        """The data of a frame and the table behind it."""
        end = len(content) - 4
        need(end >= 0 and u32(content, end) <= end, f"{self.what}: table")
        return content[: end - u32(content, end)], cbor(content[end - u32(content, end) : end], self.what)

def resolve(chain, file):
    """Where the newest image of each page that has data is: {(piece, offset of frame): {page: place in the data}}."""
    identity, path, size, pages = [file[0], file[1], file[5]], file[3], file[5], -(-file[6] // file[5])
    wanted, live = set(range(pages)), {}
    for meta, pieces in chain:
        entry = next((entry for entry in meta[3] if [entry[0], entry[1], entry[5]] == identity), None)
        if not wanted or entry is None:
            break
        need(max(wanted) < -(-entry[6] // size), f"{path}: a page was cut off and is in no newer set")
        for piece, offset, table in ((p, offset, table) for p in pieces for offset, table in p.tables):
            place = 0
            for (first, count), kind, *_ in table[3] if table[:3] == identity else []:
                for page in range(first, min(first + count, pages)):
                    if page in wanted and kind == 0:
                        live.setdefault((piece, offset), {})[page] = place + (page - first) * size
                    wanted.discard(page)
                place += count * size if kind == 0 else 0
    need(not wanted, f"{path}: {len(wanted)} pages are in no set of the chain")
    return live

def write_file(chain, file, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        out.truncate(file[6])
        for (piece, offset), pages in resolve(chain, file).items():
            data = piece.table(piece.frame(offset)[1])[0]
            for page, place in pages.items():
                size = min(file[5], file[6] - page * file[5])
                need(place + size <= len(data), f"{file[3]} page {page}: too little data")
                os.pwrite(out.fileno(), data[place : place + size], page * file[5])

def place_of(file, tablespaces, root):
    moved = [space[1] for space in tablespaces if space[0] == file[2] and space[3:4] not in ([], [None])]
    names = ["tablespaces", moved[0].replace("/", "_")] if moved else []
    names += file[3].split("/")
    need(all(name not in ("", ".", "..") and "\0" not in name and "\\" not in name for name in names), "unsafe path")
    return root.joinpath(*names)

def restore(repository, wanted, target, secret):
    newest = max(repository.glob("repo/" + 8 * "[0-9]" + ".repo"), default=None)
    need(newest, f"{repository}: no repository")
    descriptor, body = small_object(newest, b"SPREPO\n\0", int(newest.stem))
    need(descriptor[2] == int(secret is not None), "a key is missing, or was given for a plain repository")
    epochs = open_epochs(descriptor, body, secret) if secret else None
    directories = [path.parent for path in (repository / "sets").glob("*/set.meta")]
    sets = {uuid.UUID(path.name).bytes: (path, *read_meta(path, epochs)) for path in directories}
    fits = lambda s: s[6][0] in (0, 1) if wanted == "latest" else wanted in (s[1], str(uuid.UUID(bytes=s[0])))
    found = sorted(set_id for set_id, (_, meta, _) in sets.items() if fits(meta[0]))
    need(found and (wanted == "latest" or len(found) == 1), f"{len(found)} sets are called {wanted}")
    chain, at = [], found[-1]
    while at is not None:
        need(at in sets and len(chain) < len(sets), "a base of the set is missing")
        directory, meta, key = sets[at]
        chain.append((meta, [Piece(directory / f"{info[0]:06}.bak", at, info, key) for info in meta[4]]))
        at = meta[0][7]
    need(len({meta[0][2] for meta, _ in chain}) == 1, "sets of several sources in one chain")
    for file in chain[0][0][3]:
        write_file(chain, file, place_of(file, chain[0][0][2], target))
    return f"{len(chain[0][0][3])} files from {len(chain)} sets"

def main():
    parser = argparse.ArgumentParser(description="Restores a set of a Setpiece repository.")
    for name in ("repository", "set", "target", "--key-file"):
        parser.add_argument(name)
    args = parser.parse_args()
    target = Path(args.target)
    hidden = target.with_name(f".{target.name}.partial")
    try:
        need(not target.exists(), f"{target}: exists")
        hidden.mkdir(parents=True)
        secret = read_secret(args.key_file) if args.key_file else None
        done = restore(Path(args.repository), args.set, hidden, secret)
        os.rename(hidden, target)
        print(done)
    except (Refused, OSError, LookupError, TypeError, ValueError, *LIBRARIES) as error:
        shutil.rmtree(hidden, ignore_errors=True)
        sys.exit(f"reader.py: {type(error).__name__}: {error}")

if __name__ == "__main__":
    main()
