/**
 * A proxy that speaks SOCKS 5 (RFC 1928), as far as a client without credentials needs it, on loopback. Whatever address
 * it is asked for is 127.0.0.1 on its side.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

const NO_CREDENTIALS = Buffer.from([5, 0])
const CONNECTED = Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
/** Before the address, if it is of IPv4. */
const HEADER_BYTES = 4
const IPV4 = 1

export class SocksProxy {
  /** Ports that clients have asked for. */
  readonly asked: string[] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor() {
    this.#server = createServer((client) => {
      // Whoever goes away has said all.
      this.#serve(client).catch(() => client.destroy())
    })
  }

  static async start(): Promise<SocksProxy> {
    const proxy = new SocksProxy()
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening')
    return proxy
  }

  get url(): string {
    return `socks5://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async #serve(client: Socket): Promise<void> {
    this.#sockets.add(client)
    await once(client, 'data')
    client.write(NO_CREDENTIALS)
    const [request] = (await once(client, 'data')) as [Buffer]
    if (request[3] !== IPV4) throw new Error('expected an address of IPv4')
    const port = request.readUInt16BE(HEADER_BYTES + 4)
    this.asked.push(String(port))
    const target = connect(port, '127.0.0.1')
    await once(target, 'connect')
    this.#sockets.add(target)
    client.write(CONNECTED)
    client.pipe(target).pipe(client)
    for (const socket of [client, target]) socket.on('error', () => socket.destroy())
  }
}
