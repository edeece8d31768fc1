/** Requests to the API server, with the credentials and the TLS settings of a kubeconfig. */
import { readFileSync } from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { dirname, resolve } from 'node:path'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { KubeConfig } from '@kubernetes/client-node'
import { parse } from 'yaml'
import { withoutBrackets } from '../model/address.ts'
import { type Body, textOf } from './pages/page.ts'

/** Nothing arrives for so long: the connection is taken for dead. Watches get a bookmark about once a minute. */
const SILENCE_MS = 150_000
/** An error's body beyond this is not read. */
const MAX_STATUS_BYTES = 64 * 1024
const NEWLINE = 0x0a

/** The API server answered with an error. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** HTTP status, or the code of a Status object in a watch. */
  readonly status: number
  /** From Retry-After, in ms. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, status: number, retryAfterMs?: number) {
    super(message)
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

/** The resource version or continue token is too old: list anew (410, "Expired" or "Gone"). */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && error.status === 410
}

export interface ApiClient {
  /** The body of a 200 answer, unread; JSON in the form that `accept` names. Throws ApiError for any other status. */
  get(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    accept?: string,
  ): Promise<IncomingMessage>
  /** Sends an object, or a merge patch of one (RFC 7386), and returns the answer's. Throws as `get`. */
  send(method: 'POST' | 'PATCH', path: string, body: object, signal: AbortSignal): Promise<unknown>
}

/** A request that has been answered, or has failed. */
export interface RequestOutcome {
  /** GET, LIST, WATCH, POST or PATCH, as client-go calls it. */
  readonly verb: string
  /** Of HTTP. */
  readonly method: string
  /** Of the API server, with its port. */
  readonly host: string
  /** HTTP status, or `<error>`. */
  readonly code: string
  /** Until the answer began. */
  readonly seconds: number
}

/** The standard `tokenFile` of a kubeconfig user, which client-node knows only for pods: it is read anew every minute. */
function honourTokenFiles(config: KubeConfig, file: string): void {
  const text = readFileSync(file, 'utf8')
  // Few have one, and certificates take long to parse: to look is faster.
  if (!text.includes('tokenFile')) return
  const { users } = (parse(text) ?? {}) as {
    users?: { name?: string; user?: { tokenFile?: string } }[]
  }
  for (const { name, user } of users ?? []) {
    if (user?.tokenFile === undefined) continue
    const index = config.users.findIndex((known) => known.name === name)
    const known = config.users[index]
    if (known === undefined) continue
    const { token: _token, ...others } = known
    const tokenFile = resolve(dirname(file), user.tokenFile)
    config.users[index] = { ...others, authProvider: { name: 'tokenFile', config: { tokenFile } } }
  }
}

/** `host:port` is HTTPS where there is something to verify it with, else HTTP, as for client-go. */
function serverOf(master: string, hasTls: boolean): string {
  const server = master.includes('://') ? master : `${hasTls ? 'https' : 'http'}://${master}`
  if (/^https?:/.test(server) && URL.canParse(server)) return server
  throw new Error(`Cannot use --master ${master}: give a URL such as https://192.0.2.1:6443`)
}

/** The cluster's URL is another one than the kubeconfig says; without a kubeconfig, it is all there is. */
function overrideServer(config: KubeConfig, master: string): void {
  const cluster = config.getCurrentCluster()
  if (cluster === null) {
    const server = serverOf(master, false)
    config.loadFromClusterAndUser({ name: 'master', server, skipTLSVerify: false }, { name: 'none' })
  } else {
    const hasTls = cluster.caFile !== undefined || cluster.caData !== undefined || cluster.skipTLSVerify
    config.clusters[config.clusters.indexOf(cluster)] = { ...cluster, server: serverOf(master, hasTls) }
  }
}

/** Plain HTTP has no certificate to verify, and client-node refuses it unless it is told so. */
function allowPlainHttp(config: KubeConfig): void {
  config.clusters = config.clusters.map((cluster) =>
    cluster.server.startsWith('http:') ? { ...cluster, skipTLSVerify: true } : cluster,
  )
}

/**
 * Loads a kubeconfig file, or the pod's service account when `file` is empty; `master` is the API server's URL in its
 * place, and without a file it is all there is, with no credentials. Throws an Error that names what cannot be used.
 */
export function loadKubeConfig(file: string, master = ''): KubeConfig {
  const config = file === '' ? (master === '' ? loadServiceAccount() : new KubeConfig()) : loadFile(file)
  if (master !== '') overrideServer(config, master)
  allowPlainHttp(config)
  return config
}

function loadServiceAccount(): KubeConfig {
  if (process.env.KUBERNETES_SERVICE_HOST === undefined) {
    throw new Error(
      'No API server to talk to: set clientConnection.kubeconfig, run in a pod, or use --manifests without a cluster',
    )
  }
  const config = new KubeConfig()
  config.loadFromCluster()
  return config
}

function loadFile(file: string): KubeConfig {
  const config = new KubeConfig()
  try {
    config.loadFromFile(file)
    honourTokenFiles(config, file)
    if (config.getCurrentCluster() === null) throw new Error('its current context names no cluster')
    return config
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`Cannot use kubeconfig ${file}: ${reason}`, { cause })
  }
}

function retryAfterMs(response: IncomingMessage): number | undefined {
  const seconds = Number(response.headers['retry-after'])
  return seconds > 0 ? seconds * 1000 : undefined
}

/** The body, or not much more than `limit` bytes of it. */
async function receive(response: IncomingMessage, limit = Infinity): Promise<Body> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response) {
    chunks.push(chunk as Buffer)
    length += (chunk as Buffer).length
    if (length > limit) break
  }
  return { bytes: Buffer.concat(chunks), isZipped: response.headers['content-encoding'] === 'gzip' }
}

/** The message of a Status object, or the start of whatever came instead. */
async function errorOf(response: IncomingMessage): Promise<ApiError> {
  const text = textOf(await receive(response, MAX_STATUS_BYTES))
  let message = text.slice(0, 200)
  try {
    message = (JSON.parse(text) as { message?: string }).message ?? message
  } catch {
    // A proxy in between answers in HTML or text: its first words are the best there is.
  }
  const status = response.statusCode ?? 0
  return new ApiError(`API server answered ${status}: ${message}`, status, retryAfterMs(response))
}

function verbOf(method: string, path: string): string {
  if (method !== 'GET') return method
  if (/[?&]watch=true/.test(path)) return 'WATCH'
  // Lists are all that is read here.
  return 'LIST'
}

interface HttpRequest {
  readonly method: string
  readonly path: string
  /** The answer may come compressed. */
  readonly zips?: boolean
  readonly accept?: string | undefined
  readonly body?: string
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  POST: 'application/json',
  PATCH: 'application/merge-patch+json',
}

/** Makes client-node's agent keep its connections: else every page of a list would begin with a handshake. */
function keepConnections(agent: https.Agent, name: string): void {
  Object.assign(agent, { keepAlive: true })
  // Through a proxy that speaks SOCKS, TLS is not told the address that the certificate has to be for. This is no option
  // of each request: requests that each have a function of their own share no connection.
  const identify = (_host: string, certificate: PeerCertificate): Error | undefined =>
    checkServerIdentity(name, certificate)
  Object.assign(agent.options, { checkServerIdentity: identify })
}

/** Sends one request; resolves when the answer begins. */
async function request(
  config: KubeConfig,
  asked: HttpRequest,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { method, path, body, zips = false, accept = 'application/json' } = asked
  const url = new URL(`${config.getCurrentCluster()!.server.replace(/\/$/, '')}${path}`)
  const options: https.RequestOptions = { signal }
  await config.applyToHTTPSOptions(options)
  // Not before: a limit that is the agent's, too, gives way to a server's shorter one for connections that are idle.
  options.timeout = SILENCE_MS
  keepConnections(options.agent as https.Agent, options.servername ?? withoutBrackets(url.hostname))
  const credentials = Object.entries((options.headers ?? {}) as Record<string, string>)
  // A token file may end with a newline, which no header may.
  const trimmed = Object.fromEntries(credentials.map(([name, value]) => [name, value.trim()]))
  const content = body === undefined ? {} : { 'Content-Type': CONTENT_TYPES[method]! }
  const encoding = zips ? { 'Accept-Encoding': 'gzip' } : {}
  options.headers = {
    ...trimmed,
    ...content,
    ...encoding,
    Accept: accept,
    'User-Agent': 'kube-ipvs',
  }
  options.method = method
  return send(url, options, body)
}

/** Resolves when the answer begins. */
async function send(url: URL, options: https.RequestOptions, body?: string): Promise<IncomingMessage> {
  const answer = Promise.withResolvers<IncomingMessage>()
  const sent = (url.protocol === 'http:' ? http : https).request(url, options, answer.resolve)
  sent.on('timeout', () => sent.destroy(new Error(`no data for ${SILENCE_MS / 1000} s`)))
  sent.on('error', answer.reject)
  sent.end(body)
  return answer.promise.catch((error: unknown) => {
    // A connection that was kept may be closed by the other side just when it is used: that says nothing of the server.
    if (sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET')
      return send(url, options, body)
    throw error
  })
}

/**
 * Opens a client. `load` is called again after a 401, so that rotated credentials are picked up; `onEnd` is told of
 * every request.
 */
export function openApiClient(
  load: () => KubeConfig,
  onEnd: (outcome: RequestOutcome) => void = () => undefined,
): ApiClient {
  let config = load()
  const observed = async (asked: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> => {
    const { method, path } = asked
    const started = performance.now()
    const tell = (code: string): void => {
      const { host } = new URL(config.getCurrentCluster()!.server)
      onEnd({ verb: verbOf(method, path), method, host, code, seconds: (performance.now() - started) / 1000 })
    }
    try {
      const response = await request(config, asked, signal)
      tell(String(response.statusCode))
      return response
    } catch (error) {
      if (!signal.aborted) tell('<error>')
      throw error
    }
  }
  const answered = async (asked: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> => {
    const response = await observed(asked, signal)
    if (response.statusCode !== 401) return response
    response.resume()
    config = load()
    return observed(asked, signal)
  }
  return {
    async get(path, query, signal, accept) {
      const full = `${path}?${new URLSearchParams(query).toString()}`
      // Lists are a tenth as long compressed; events of a watch have to come at once.
      const zips = query.watch === undefined
      const response = await answered({ method: 'GET', path: full, zips, accept }, signal)
      if (response.statusCode !== 200) throw await errorOf(response)
      return response
    },
    async send(method, path, object, signal) {
      const response = await answered({ method, path, body: JSON.stringify(object) }, signal)
      if (response.statusCode !== 200 && response.statusCode !== 201) throw await errorOf(response)
      return readJson(response)
    },
  }
}

/** The whole body. Throws when it is cut off. */
export async function readBody(response: IncomingMessage): Promise<Body> {
  const body = await receive(response)
  if (!response.complete) throw new Error('the answer was cut off')
  return body
}

/** The whole body as JSON. */
export async function readJson(response: IncomingMessage): Promise<unknown> {
  return JSON.parse(textOf(await readBody(response)))
}

/** The lines of a body as they come. Throws when the connection breaks, or ends within a line. */
export async function* readLines(response: IncomingMessage): AsyncGenerator<string> {
  let rest: Buffer[] = []
  for await (const chunk of response) {
    let data = chunk as Buffer
    for (let end = data.indexOf(NEWLINE); end >= 0; end = data.indexOf(NEWLINE)) {
      yield Buffer.concat([...rest, data.subarray(0, end)]).toString('utf8')
      rest = []
      data = data.subarray(end + 1)
    }
    if (data.length > 0) rest.push(data)
  }
  if (rest.length > 0 || !response.complete) throw new Error('the answer was cut off')
}
