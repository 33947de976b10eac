// Signed statements, tickets and bodies, written from docs/protocol.md alone.
//
// Nothing here comes from p2pcap: DAG-CBOR is @ipld's, Ed25519 and SHA-256 are OpenSSL's, zstd is fzstd's. What both
// programs make and accept is therefore what the document says.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import * as cbor from '@ipld/dag-cbor'
import { decompress } from 'fzstd'

const PRIVATE_KEY = Buffer.from('302e020100300506032b657004220420', 'hex') // RFC 8410: what stands before the seed
const PUBLIC_KEY = Buffer.from('302a300506032b6570032100', 'hex')
const MAX_ENVELOPE = 3_512
const MAX_RAW = 1_048_576

// Encoding

export const encode = cbor.encode

/** The value in `data`. Throws for anything but the one encoding of a value. */
export function decode (data) {
  const value = cbor.decode(data)
  if (!Buffer.from(encode(value)).equals(Buffer.from(data))) throw new Error('not the canonical encoding')
  return value
}

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

export function u32be (number) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}

// Signed statements

function signedBytes (domain, message) {
  return Buffer.concat([Buffer.from(`p2pcap/${domain}/1\0`), u32be(message.length), message])
}

/** Who signs: the key of a 32-byte seed. */
export function identity (seed) {
  const secret = createPrivateKey({ key: Buffer.concat([PRIVATE_KEY, seed]), format: 'der', type: 'pkcs8' })
  const author = createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_KEY.length)
  return { author, sign: (domain, message) => sign(null, signedBytes(domain, Buffer.from(message)), secret) }
}

function holds (author, domain, message, signature) {
  const key = createPublicKey({ key: Buffer.concat([PUBLIC_KEY, author]), format: 'der', type: 'spki' })
  return verify(null, signedBytes(domain, message), key, signature)
}

/** The bytes of `record` as a statement of `type`, signed by `signer`. */
export function seal (signer, type, record) {
  const payload = encode(record)
  return encode([1, type, payload, signer.author, signer.sign(type, payload)])
}

/** What stands in an envelope, its id, and whether its signature holds. Throws when it is none. */
export function open (data) {
  if (data.length > MAX_ENVELOPE) throw new Error('larger than any statement')
  const [version, type, payload, author, signature, ...more] = decode(data)
  const fits = version === 1 && more.length === 0 && author.length === 32 && signature.length === 64
  if (!fits) throw new Error('no envelope')
  const id = sha256('p2pcap-id/1\0', type, '\0', author, payload)
  const good = holds(author, type, payload, signature)
  return { type, author, payload, id, holds: good, get record () { return decode(payload) } }
}

// Tickets and grants

/** The ticket in a text. */
export function readTicket (text) {
  const word = text.replace(/\s/g, '').replace(/^p2pcap:/i, '')
  const bytes = Buffer.from(word, 'base64url')
  const data = bytes.subarray(3)
  if (!checkSymbols(data).equals(bytes.subarray(0, 3)) || bytes.toString('base64url') !== word) {
    throw new Error('a damaged ticket')
  }
  if (data[0] >> 2 !== 4) throw new Error('a ticket of another version')
  let at = 2
  const take = count => data.subarray(at, at += count)
  const packed = data[0] & 2
  const name = packed ? unpack(take(Math.ceil(data[1] * 6 / 8)), data[1]) : take(data[1]).toString()
  const ticket = { name, root: take(32) }
  if (data[0] & 1) {
    ticket.secret = take(16)
    ticket.uses = 0
    let more = true
    for (let shift = 0; more; shift += 7) {
      const [byte] = take(1)
      ticket.uses |= (byte & 0x7f) << shift
      more = byte > 0x7f
    }
    ticket.expires = take(4).readUInt32BE()
    ticket.signature = take(64)
  }
  return ticket
}

/** The sum of the data's symbols of 12 bits, and their sum with powers of x as weights, in GF(4096). */
function checkSymbols (data) {
  let [total, weighted] = [data.length & 0xfff, 1]
  const whole = Buffer.concat([data, Buffer.alloc((3 - data.length % 3) % 3)])
  for (let at = 0; at < whole.length; at += 3) {
    const pair = whole.readUIntBE(at, 3)
    for (const symbol of [pair >> 12, pair & 0xfff]) {
      total ^= symbol
      weighted <<= 1
      if (weighted >> 12) weighted ^= 0x1053
      weighted ^= symbol
    }
  }
  return Buffer.from([total >> 4, (total & 15) << 4 | weighted >> 8, weighted & 0xff])
}

function unpack (bytes, count) {
  return Buffer.concat([bytes, Buffer.alloc(2)]).toString('base64url').slice(0, count).replace(/_/g, ' ')
}

/** The statement that admits `joiner` under `name`, signed with the ticket's key; `coordinators` may have invited it. */
export function makeGrant (joiner, ticket, name, time, coordinators) {
  const m = ticket.root.subarray(0, 8)
  const key = identity(sha256('p2pcap-ticket-key/1\0', ticket.secret))
  const { expires, signature, uses } = ticket
  const invite = { key: key.author, expires, signature, ...(uses ? { uses } : {}) }
  invite.signer = coordinators.find(one => holds(one, 'invite', invited(m, invite), signature))
  if (invite.signer === undefined) throw new Error('no coordinator signed the invitation')
  const wish = joiner.sign('join', encode({ m, ticket: invite.key, name, time }))
  return seal(key, 'grant', { m, key: joiner.author, name, time, invite, wish })
}

/** Whether a coordinator signed the invitation of a grant, and the admitted key asked for it. */
export function grantHolds (grant, coordinators) {
  const { m, key, name, time, invite, wish } = grant
  const wished = Buffer.from(encode({ m, ticket: invite.key, name, time }))
  return coordinators.some(one => Buffer.from(one).equals(Buffer.from(invite.signer))) &&
    holds(invite.signer, 'invite', invited(m, invite), invite.signature) && holds(key, 'join', wished, wish)
}

function invited (m, { key, expires, uses }) {
  return Buffer.from(encode({ m, key, expires, ...(uses ? { uses } : {}) }))
}

// Bodies

/** RFC 9162, 2.1, over the rows' encodings. */
export function merkleRoot (rows) {
  if (rows.length === 1) return sha256('\0', rows[0])
  let split = 1
  while (split * 2 < rows.length) split *= 2
  return sha256('\x01', merkleRoot(rows.slice(0, split)), merkleRoot(rows.slice(split)))
}

/** The rows of a body and their Merkle root. */
export function openBody (data) {
  const raw = decompress(data)
  const rows = decode(raw)
  return { rows, root: merkleRoot(rows.map(encode)), raw: raw.length }
}

/** A body of `rows`, and what its header says of it. */
export function makeBody (rows, offset) {
  const raw = encode(rows)
  const mask = Buffer.alloc(8)
  for (const { item } of rows) mask[(item - offset) >> 3] |= 1 << ((item - offset) & 7)
  const data = stored(raw)
  return { data, root: merkleRoot(rows.map(encode)), raw: raw.length, length: data.length, mask }
}

/** A zstd frame (RFC 8878) that declares its length and stores `raw` as it is. */
function stored (raw) {
  if (raw.length > MAX_RAW) throw new Error('more than a body may hold')
  const head = Buffer.from('28b52ffda000000000', 'hex') // magic; one segment, 4 bytes of length
  head.writeUInt32LE(raw.length, 5)
  const parts = [head]
  for (let start = 0; start < raw.length; start += 65_536) {
    const block = raw.subarray(start, start + 65_536)
    const header = Buffer.alloc(3)
    header.writeUIntLE(block.length << 3 | (start + block.length === raw.length ? 1 : 0), 0, 3)
    parts.push(header, block)
  }
  return Buffer.concat(parts)
}
