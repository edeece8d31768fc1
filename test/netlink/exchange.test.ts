/** The addon's exchange, with the rtnetlink of this machine. */
import { expect } from 'chai'
import { MessageWriter } from '../../src/netlink/message.ts'
import { loadAddon } from '../../src/netlink/socket.ts'

const NETLINK_ROUTE = 0
const RTM_GETADDR = 22
/** NLM_F_REQUEST and NLM_F_DUMP. */
const DUMP = 0x301
const ETIMEDOUT = 110

/** Reads the addresses of this machine so many times, in one exchange. */
async function readAddresses(times: number, timeoutMs: number): Promise<{ errno: number; ms: number }> {
  const addon = loadAddon()
  const batch = new MessageWriter(1)
  for (let i = 0; i < times; i++) {
    batch.begin(RTM_GETADDR, DUMP)
    batch.appendBytes(0, 0, 0, 0)
    batch.appendBytes(0, 0, 0, 0)
    batch.end()
  }
  const socket = addon.open(NETLINK_ROUTE, 1024 * 1024)
  const start = performance.now()
  const { errno } = await addon.exchange(socket, batch.bytes(), timeoutMs)
  addon.close(socket)
  return { errno, ms: performance.now() - start }
}

describe('exchange', () => {
  it('takes longer than its timeout, as long as answers come', async () => {
    let times = 1_000
    let { errno, ms } = await readAddresses(times, 60_000)
    while (ms < 1_000) ({ errno, ms } = await readAddresses((times *= 2), 60_000))
    expect(errno).to.equal(0)

    expect(await readAddresses(times * 2, ms)).to.include({ errno: 0 })
  })

  it('fails with ETIMEDOUT when none comes in time', async () => {
    expect(await readAddresses(1, 0)).to.include({ errno: ETIMEDOUT })
  })
})
