// Requests and content by hash, written from docs/protocol.md alone (Requests, Content by hash, Reconciliation).

import { byteStream } from '@libp2p/utils'
import { decode, encode, openBody, sha256, u32be } from './statements.mjs'

const ANSWER_BYTES = 4 * 1024 * 1024
const PIECE_BYTES = 64 * 1024
const HEAD_BYTES = 10
const MAX_REQUEST = 65_536
const LIMITS = {
  status: 16_384, statements: 1_050_624, claims: 2_097_152, chain: 1_050_624, reconcile: 65_536, push: 16
}
const [DATA, ABSENT, END] = [0, 1, 2]
export const KINDS = ['blob', 'body', 'image']

/** Reads and writes frames on a libp2p stream: a length of four bytes, big-endian, then so many bytes. */
class Frames {
  constructor (stream) {
    this.stream = stream
    this.bytes = byteStream(stream, { maxBufferSize: 2 * ANSWER_BYTES })
  }

  async read (limit) {
    const length = Buffer.from((await this.bytes.read({ bytes: 4 })).subarray()).readUInt32BE()
    if (length > limit) throw new Error(`a frame of ${length} bytes; at most ${limit} are allowed`)
    return length > 0 ? Buffer.from((await this.bytes.read({ bytes: length })).subarray()) : Buffer.alloc(0)
  }

  write (data) {
    return this.bytes.write(Buffer.concat([u32be(data.length), data]))
  }
}

/** The other peer's answer to one request. */
export async function ask (stream, name, request) {
  const frames = new Frames(stream)
  await frames.write(encode(request))
  const answer = decode(await frames.read(LIMITS[name]))
  await stream.close()
  return answer
}

/** A handler that answers requests with what `answer(request, peer)` returns. */
export const answering = answer => (stream, connection) => served(stream, async frames => {
  await frames.write(encode(await answer(decode(await frames.read(MAX_REQUEST)), connection.remotePeer.toString())))
})

/** A handler that answers requests for content with what `held(hash)` returns. */
export const serving = held => stream => served(stream, async frames => {
  const { wanted } = decode(await frames.read(MAX_REQUEST))
  for (const piece of pieces(wanted, held)) await frames.write(piece)
})

async function served (stream, work) {
  try {
    await work(new Frames(stream))
    await stream.close()
  } catch (error) {
    stream.abort(error)
  }
}

/** The frames of an answer: pieces of each item from its offset on, as much as one answer may carry. */
function * pieces (wanted, held) {
  let room = ANSWER_BYTES
  for (const [index, [hash, offset]] of wanted.entries()) {
    if (room <= 0) break
    const data = held(hash)
    if (data === undefined) {
      yield piece(index, ABSENT, 0)
      continue
    }
    const end = Math.min(data.length, offset + room)
    for (let start = offset; start < end || start === offset; start += PIECE_BYTES) {
      yield piece(index, DATA, data.length, data.subarray(start, Math.min(end, start + PIECE_BYTES)))
    }
    room -= end - offset
  }
  yield piece(0, END, 0)
}

function piece (index, state, total, data = Buffer.alloc(0)) {
  const head = Buffer.alloc(HEAD_BYTES)
  head[0] = index
  head[1] = state
  head.writeBigUInt64BE(BigInt(total), 2)
  return Buffer.concat([head, data])
}

/** The item with this hash, checked against it; undefined when the peer does not hold it. `open` opens a stream. */
export async function fetchOne (open, kind, hash, cap) {
  const parts = []
  let [have, total] = [0, undefined]
  while (total === undefined || have < total) {
    const before = have
    const stream = await open()
    const frames = new Frames(stream)
    await frames.write(encode({ wanted: [[hash, have]] }))
    for (let data; (data = await frames.read(HEAD_BYTES + PIECE_BYTES))[1] !== END;) {
      if (data[1] === ABSENT) return undefined
      total = Number(data.readBigUInt64BE(2))
      if (data[0] !== 0 || total > cap || (have += data.length - HEAD_BYTES) > total) throw new Error('not asked for')
      parts.push(data.subarray(HEAD_BYTES))
    }
    await stream.close()
    if (have === before && have !== total) throw new Error('an answer that brings nothing')
  }
  const whole = Buffer.concat(parts)
  if (!Buffer.from(hash).equals(nameOf(kind, whole))) throw new Error('bytes of another hash')
  return whole
}

/** The hash by which content is asked for: a body's is its Merkle root, an envelope's that of its payload. */
export function nameOf (kind, data) {
  if (kind === 'body') return openBody(data).root
  return kind === 'blob' && isEnvelope(data) ? sha256(decode(data)[2]) : sha256(data)
}

const isEnvelope = data => data.length <= 1_756 && data[0] === 0x85 && data[1] === 1

/** A frame of reconciliation that lists all `ids` of a small set: one range, up to infinity, as a list of ids. */
export function listing (ids) {
  if (ids.length > 127) throw new Error('this peer only tells of small sets')
  return Buffer.concat([Buffer.from([0x61, 0, 0, 2, ids.length]), ...ids])
}

/** What the answer to a listing says: ids to ask for, and ids to push. */
export function differing (frame, ids) {
  const theirs = idsOf(frame)
  const [there, here] = [theirs, ids].map(list => new Set(list.map(id => id.toString('hex'))))
  return {
    need: theirs.filter(id => !here.has(id.toString('hex'))),
    have: ids.filter(id => !there.has(id.toString('hex')))
  }
}

/** All ids in a frame that lists every one of its ranges. */
function idsOf (frame) {
  const reader = { at: 1, data: Buffer.from(frame) }
  if (reader.data[0] !== 0x61) throw new Error('another version of Negentropy')
  const ids = []
  while (reader.at < reader.data.length) {
    number(reader) // the upper bound's time
    take(reader, number(reader)) // and its id
    const mode = number(reader)
    if (mode === 1) throw new Error('a set too large for this peer')
    for (let left = mode === 2 ? number(reader) : 0; left > 0; left--) ids.push(take(reader, 32))
  }
  return ids
}

function take (reader, count) {
  if (reader.at + count > reader.data.length) throw new Error('a frame that ends too early')
  return reader.data.subarray(reader.at, reader.at += count)
}

/** A number in digits of seven bits, the highest first. */
function number (reader) {
  let value = 0
  for (;;) {
    const [digit] = take(reader, 1)
    value = value * 128 + (digit & 127)
    if (digit < 128) return value
  }
}
