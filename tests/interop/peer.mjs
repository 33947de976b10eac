// A peer of a p2pcap project on js-libp2p: `node peer.mjs ROOT SEED`, both in hex.
//
// It is driven by lines of JSON on standard input, {"id", "do", …}, each answered by a line {"id", "answer"} or
// {"id", "error"}. In between come lines {"event", …}. Bytes are in hex. Written from docs/protocol.md alone.

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createInterface } from 'node:readline'
import * as statements from './statements.mjs'
import { KINDS, answering, ask, differing, fetchOne, listing, nameOf, serving } from './wire.mjs'

const [ROOT, SEED] = process.argv.slice(2).map(text => Buffer.from(text, 'hex'))
const PROJECT = ROOT.subarray(0, 8)
const TOPICS = ['claims', 'results', 'control']
const MAX_BLOB = 64 * 1024 * 1024

const named = name => `/p2pcap/1/${PROJECT.toString('hex')}/${name}`
const hex = bytes => Buffer.from(bytes).toString('hex')
const bytes = text => Buffer.from(text, 'hex')
const say = line => process.stdout.write(`${JSON.stringify(line)}\n`)
const now = () => Math.floor(Date.now() / 1000)

const me = statements.identity(SEED)
const contents = new Map() // by hash: what others may fetch
const held = new Map() // by id: stored statements
const hold = data => held.set(hex(statements.open(data).id), Buffer.from(data))

const node = await createLibp2p({
  privateKey: await generateKeyPairFromSeed('Ed25519', SEED),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub({ runOnLimitedConnection: true }) }
})

// What this peer says of itself, and what it answers

function status () {
  const sum = [...held.keys()].reduce((total, id) => total + BigInt(`0x${id}`), 0n) % 2n ** 256n
  return {
    version: 1, project: PROJECT, root: ROOT, root_version: 1, manifest_version: 0, manifest: Buffer.alloc(32), count: held.size,
    digest: bytes(sum.toString(16).padStart(64, '0')), engines: 0, engine_ready: false, images: 0, rows: 0,
    checkpoint: 0, role: 'volunteer', name: 'js', agent: 'js-libp2p', store: 'full', relay: false,
    addresses: addresses().slice(0, 8), peers: []
  }
}

const addresses = () => node.getMultiaddrs().map(String)
const known = ids => ids.map(hex).filter(id => held.has(id)).map(id => held.get(id))
const listed = () => [...held.keys()].sort().map(bytes)

const answers = {
  status: () => status(),
  claims: () => ({ envelopes: [] }),
  chain: () => ({ envelopes: [] }),
  statements: ({ ids }) => ({ envelopes: known(ids) }),
  reconcile: () => ({ frame: listing(listed()) }),
  push: ({ envelopes }) => { envelopes.forEach(hold); return {} }
}

const anywhere = { runOnLimitedConnection: true }
for (const [name, answer] of Object.entries(answers)) await node.handle(named(name), answering((request, peer) => {
  say({ event: 'asked', name, peer })
  return answer(request)
}), anywhere)
for (const kind of KINDS) await node.handle(named(kind), serving(hash => contents.get(hex(hash))), anywhere)

node.addEventListener('peer:disconnect', ({ detail }) => say({ event: 'lost', peer: detail.toString() }))
node.services.pubsub.addEventListener('message', ({ detail: { topic, data } }) => {
  say({ event: 'heard', topic: topic.split('/').at(-1), data: hex(data), statement: shown(data) })
})
for (const topic of TOPICS) node.services.pubsub.subscribe(named(topic))

function shown (data) {
  try {
    const { type, author, id, holds } = statements.open(data)
    return { type, author: hex(author), id: hex(id), holds }
  } catch {
    return null
  }
}

// What it is told to do

const connection = peer => node.getConnections().find(one => one.remotePeer.toString() === peer)
const stream = (peer, name) => connection(peer).newStream(named(name), anywhere)
const request = async (peer, name, asked) => ask(await stream(peer, name), name, asked)
const get = (peer, kind, hash, cap = MAX_BLOB) => fetchOne(() => stream(peer, kind), kind, hash, cap)

/** Publish once somebody is in the topic's mesh: js-libp2p drops what it says before its stream to a peer is open. */
async function publish (topic, data) {
  while (node.services.pubsub.getMeshPeers(named(topic)).length === 0) {
    await new Promise(resolve => node.services.pubsub.addEventListener('gossipsub:graft', resolve, { once: true }))
  }
  await node.services.pubsub.publish(named(topic), data)
}

/** Make equal what the peer holds and what is held here. */
async function sync (peer) {
  const { frame } = await request(peer, 'reconcile', { frame: listing(listed()) })
  const { need, have } = differing(frame, listed())
  const { envelopes } = await request(peer, 'statements', { ids: need })
  envelopes.forEach(hold)
  if (have.length > 0) await request(peer, 'push', { envelopes: known(have) })
  return { got: envelopes.length, gave: have.length }
}

/** Everything that hangs under the root: its keys, the plan, and the item list of the first chunk. */
async function project (peer) {
  const { manifest } = await request(peer, 'status', status())
  const root = statements.open(await get(peer, 'blob', ROOT)).record
  const signed = statements.open(await get(peer, 'blob', manifest))
  const coordinators = root.roles.coordinator.keys.map(index => root.keys[index])
  const trusted = coordinators.some(key => hex(key) === hex(signed.author))
  if (!signed.holds || !trusted) throw new Error('a manifest that is not the coordinator\'s')
  const plan = statements.decode(await get(peer, 'blob', signed.record.plan))
  const items = statements.decode(await get(peer, 'blob', plan.chunks.rows.subarray(0, 32)))
  return { plan, items, coordinators, tid: statements.sha256(statements.encode(plan.stages[0].task)).subarray(0, 8) }
}

/** Caption the first slice without looking, and offer the body; the signed header. */
function makeResult ({ plan, items, tid }, text) {
  const answers = plan.stages[0].task.prompts.map(() => ({ text, tokens: 1, finish: 'stop' }))
  const rows = items.slice(0, 64).map(({ hash }, item) => ({ item, image: hash, answers, error: '', reason: '' }))
  const body = statements.makeBody(rows, 0)
  contents.set(hex(body.root), body.data)
  return statements.seal(me, 'result', {
    m: PROJECT, tid, chunk: 0, offset: 0, n: rows.length, mask: body.mask, root: body.root, length: body.length,
    raw: body.raw, tokens: rows.length * answers.length, engine: Buffer.alloc(8), time: now(), nonce: 1
  })
}

const commands = {
  addresses: () => ({ addresses: addresses() }),
  listen: async ({ address }) => { await node.components.transportManager.listen([multiaddr(address)]); return {} },
  dial: async ({ address }) => ({ peer: (await node.dial(multiaddr(address))).remotePeer.toString() }),
  ping: async ({ peer }) => ({ seconds: await node.services.ping.ping(connection(peer).remotePeer) / 1000 }),
  identify: async ({ peer }) => ({ protocols: (await node.services.identify.identify(connection(peer))).protocols }),
  publish: async ({ topic, data }) => { await publish(topic, bytes(data)); return {} },
  status: async ({ peer }) => {
    const { root, count, name, agent } = await request(peer, 'status', status())
    return { root: hex(root), count, name, agent }
  },
  statements: async ({ peer, ids }) => {
    const { envelopes } = await request(peer, 'statements', { ids: ids.map(bytes) })
    return { envelopes: envelopes.map(hex) }
  },
  hold: ({ envelope }) => { hold(bytes(envelope)); return {} },
  held: () => ({ ids: [...held.keys()] }),
  sync: ({ peer }) => sync(peer),
  offer: ({ data, times }) => {
    const content = Buffer.concat(Array(times).fill(bytes(data)))
    const hash = hex(nameOf('image', content))
    contents.set(hash, content)
    return { hash }
  },
  fetch: async ({ peer, kind, hash }) => {
    const data = await get(peer, kind, bytes(hash))
    if (data !== undefined) contents.set(hash, data)
    return { length: data === undefined ? null : data.length }
  },
  join: async ({ peer, ticket }) => {
    const { coordinators } = await project(peer)
    const grant = statements.makeGrant(me, statements.readTicket(ticket), 'js', now(), coordinators)
    const good = statements.grantHolds(statements.open(grant).record, coordinators)
    await publish('results', grant)
    return { grant: hex(grant), good }
  },
  caption: async ({ peer, text }) => {
    const result = makeResult(await project(peer), text)
    await publish('results', result)
    return { id: hex(statements.open(result).id), root: hex(statements.open(result).record.root) }
  },
  captions: async ({ peer, root }) => {
    const { rows } = statements.openBody(await get(peer, 'body', bytes(root)))
    return { texts: rows.map(row => row.answers.map(answer => answer.text)) }
  },
  open: ({ envelope }) => ({ statement: shown(bytes(envelope)) })
}

say({ event: 'ready', peer: node.peerId.toString(), addresses: addresses() })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, ...told } = JSON.parse(line)
  Promise.resolve(told).then(commands[name]).then(
    answer => say({ id, answer }), error => say({ id, error: error.stack })
  )
}
await node.stop()
