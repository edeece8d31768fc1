/**
 * A stand-in for an API server with Pods in which kubectl runs commands: over WebSocket, with the protocol
 * v5.channel.k8s.io (KEP-4006). What a Pod answers is the test's.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'

/** What a Pod's command prints, and its exit code (-1: it could not be run); undefined: it never answers. */
export interface Answered {
  readonly stdout?: string
  readonly stderr?: string
  readonly code?: number
}
export type Pod = (command: readonly string[]) => Answered | undefined

const STDOUT = 1
const STDERR = 2
const ERROR = 3
const PROTOCOL = 'v5.channel.k8s.io'

/** How the API server tells an exit code (k8s.io/apimachinery/pkg/util/remotecommand). */
function statusOf(code: number): object {
  if (code === 0) return { metadata: {}, status: 'Success' }
  if (code < 0)
    return {
      metadata: {},
      status: 'Failure',
      reason: 'InternalError',
      message: 'unable to upgrade',
      code: 500,
    }
  const causes = [{ reason: 'ExitCode', message: String(code) }]
  return {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes },
  }
}

const resource = (name: string, kind: string): object => ({
  name,
  kind,
  namespaced: true,
  singularName: '',
  verbs: ['get', 'list', 'create'],
})

export class ExecServer {
  readonly #server: Server
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => PROTOCOL })
  readonly #pods: ReadonlyMap<string, Pod>

  private constructor(pods: ReadonlyMap<string, Pod>) {
    this.#pods = pods
    this.#server = createServer((request, response) => this.#answer(request, response))
    this.#server.on('upgrade', (request, socket, head) => {
      this.#sockets.handleUpgrade(request, socket, head, (client) => {
        const { pathname, searchParams } = new URL(request.url!, 'http://x')
        const answered = this.#pods.get(pathname.split('/').at(-2)!)?.(searchParams.getAll('command'))
        if (answered === undefined) return
        const send = (channel: number, text: string): void =>
          client.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]))
        send(STDOUT, answered.stdout ?? '')
        send(STDERR, answered.stderr ?? '')
        send(ERROR, JSON.stringify(statusOf(answered.code ?? 0)))
        client.close(1000)
      })
    })
  }

  /** Pods by name; each is on the node that is named as it is, without `pod-`. */
  static async start(pods: ReadonlyMap<string, Pod>): Promise<ExecServer> {
    const server = new ExecServer(pods)
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    for (const client of this.#sockets.clients) client.terminate()
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #pod(name: string): object {
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'kube-system' },
      spec: { nodeName: name.replace('pod-', ''), containers: [{ name: 'kube-ipvs' }] },
      status: { phase: 'Running' },
    }
  }

  #answer({ url }: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(url!, 'http://x')
    const send = (body: object, status = 200): void => {
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
    }
    const name = /^\/api\/v1\/namespaces\/kube-system\/pods\/([^/]+)$/.exec(pathname)?.[1]
    if (pathname === '/api') send({ kind: 'APIVersions', versions: ['v1'] })
    else if (pathname === '/apis') send({ kind: 'APIGroupList', apiVersion: 'v1', groups: [] })
    else if (pathname === '/api/v1')
      send({ kind: 'APIResourceList', groupVersion: 'v1', resources: [resource('pods', 'Pod')] })
    else if (pathname === '/api/v1/namespaces/kube-system/pods')
      send({ kind: 'PodList', apiVersion: 'v1', items: this.#list(searchParams) })
    else if (name !== undefined && this.#pods.has(name)) send(this.#pod(name))
    else send({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 404, message: 'not found' }, 404)
  }

  #list(query: URLSearchParams): object[] {
    const isOurs = query.get('labelSelector') === 'app.kubernetes.io/name=kube-ipvs'
    return isOurs ? [...this.#pods.keys()].map((name) => this.#pod(name)) : []
  }
}
