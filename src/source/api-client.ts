/** Requests to the API server, with the credentials and the TLS settings of a kubeconfig. */
import { readFileSync } from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { KubeConfig } from '@kubernetes/client-node'
import { parse } from 'yaml'

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
  /** The body of a 200 answer, unread. Throws ApiError for any other status. */
  get(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<IncomingMessage>
}

/** The standard `tokenFile` of a kubeconfig user, which client-node knows only for pods: it is read anew every minute. */
function honourTokenFiles(config: KubeConfig, text: string): void {
  const { users } = (parse(text) ?? {}) as { users?: { name?: string; user?: { tokenFile?: string } }[] }
  for (const { name, user } of users ?? []) {
    if (user?.tokenFile === undefined) continue
    const index = config.users.findIndex((known) => known.name === name)
    const known = config.users[index]
    if (known === undefined) continue
    config.users[index] = {
      ...known,
      authProvider: { name: 'tokenFile', config: { tokenFile: user.tokenFile } },
    }
  }
}

/** Loads a kubeconfig file, or the pod's service account when `file` is empty. Throws an Error that names it. */
export function loadKubeConfig(file: string): KubeConfig {
  const config = new KubeConfig()
  if (file === '') {
    if (process.env.KUBERNETES_SERVICE_HOST === undefined) {
      throw new Error(
        'No API server to talk to: set clientConnection.kubeconfig, run in a pod, or use --manifests without a cluster',
      )
    }
    config.loadFromCluster()
    return config
  }
  try {
    const text = readFileSync(file, 'utf8')
    config.loadFromFile(file)
    honourTokenFiles(config, text)
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

/** The message of a Status object, or the start of whatever came instead. */
async function errorOf(response: IncomingMessage): Promise<ApiError> {
  let text = ''
  for await (const chunk of response) {
    text += String(chunk)
    if (text.length > MAX_STATUS_BYTES) break
  }
  let message = text.slice(0, 200)
  try {
    message = (JSON.parse(text) as { message?: string }).message ?? message
  } catch {
    // A proxy in between answers in HTML or text: its first words are the best there is.
  }
  const status = response.statusCode ?? 0
  return new ApiError(`API server answered ${status}: ${message}`, status, retryAfterMs(response))
}

/** Opens a client. `load` is called again after a 401, so that rotated credentials are picked up. */
export function openApiClient(load: () => KubeConfig): ApiClient {
  let config = load()
  const send = async (path: string, signal: AbortSignal): Promise<IncomingMessage> => {
    const url = new URL(`${config.getCurrentCluster()!.server.replace(/\/$/, '')}${path}`)
    const options: https.RequestOptions = { signal, timeout: SILENCE_MS }
    await config.applyToHTTPSOptions(options)
    const credentials = options.headers as Record<string, string> | undefined
    options.headers = { ...credentials, Accept: 'application/json', 'User-Agent': 'kube-ipvs' }
    return new Promise((resolve, reject) => {
      const request = (url.protocol === 'http:' ? http : https).get(url, options, resolve)
      request.on('timeout', () => request.destroy(new Error(`no data for ${SILENCE_MS / 1000} s`)))
      request.on('error', reject)
    })
  }
  return {
    async get(path, query, signal) {
      const full = `${path}?${new URLSearchParams(query).toString()}`
      let response = await send(full, signal)
      if (response.statusCode === 401) {
        response.resume()
        config = load()
        response = await send(full, signal)
      }
      if (response.statusCode !== 200) throw await errorOf(response)
      return response
    },
  }
}

/** The whole body as JSON. */
export async function readJson(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  if (!response.complete) throw new Error('the answer was cut off')
  return JSON.parse(Buffer.concat(chunks).toString('utf8'))
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
