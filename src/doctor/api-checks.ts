/** Whether the API server can be used, and says the same time. */
import type { Config } from '../config/config.ts'
import { type ApiClient, ApiError, loadKubeConfig, openApiClient } from '../source/api-client.ts'
import { type Check, type Category, finding, type Finding } from './check.ts'

export interface ApiChecksOptions {
  readonly config: Config
  readonly nodeName: string
  /** A directory instead of an API server. */
  readonly manifests: string | undefined
  /** The API server's URL, instead of the kubeconfig's. */
  readonly master: string | undefined
}

const ANSWER_MS = 5_000
/** Certificates and tokens fail, and drains end at the wrong time. */
const SKEW_MS = 60_000

const LISTED: readonly (readonly [string, string])[] = [
  ['services', '/api/v1/services'],
  ['endpointslices', '/apis/discovery.k8s.io/v1/endpointslices'],
  ['nodes', '/api/v1/nodes'],
]

const RBAC = 'docs/operations.md#install'

function explain(error: unknown, what: string): Finding {
  const { message, cause } = error as Error
  if (!(error instanceof ApiError)) {
    const reason = cause instanceof Error ? `: ${cause.message}` : ''
    return finding(
      `the API server does not answer: ${message}${reason}`,
      'look at the network, and clientConnection.kubeconfig',
    )
  }
  if (error.status === 401)
    return finding(
      'the API server does not know us (401)',
      'renew the token or certificate of the kubeconfig',
    )
  if (error.status === 403)
    return finding(
      `we may not list ${what} (403)`,
      'apply deploy/base/rbac.yaml, or the role system:node-proxier',
      RBAC,
    )
  return finding(`the API server answers ${error.status} for ${what}: ${message}`, 'look at the API server')
}

/** Asks for one object of each resource: to be allowed to list is what counts. */
async function checkAccess(api: ApiClient): Promise<Finding[]> {
  const asked = LISTED.map(async ([what, path]) => {
    try {
      const response = await api.get(path, { limit: '1' }, AbortSignal.timeout(ANSWER_MS))
      response.destroy()
      return []
    } catch (error) {
      return [explain(error, what)]
    }
  })
  // Nobody there is one fault, not three.
  return (await Promise.all(asked)).flat()
}

async function checkNode(api: ApiClient, nodeName: string): Promise<Finding[]> {
  try {
    const query = { fieldSelector: `metadata.name=${nodeName}` }
    const response = await api.get('/api/v1/nodes', query, AbortSignal.timeout(ANSWER_MS))
    const { items } = JSON.parse(await read(response)) as { items: unknown[] }
    return items.length > 0
      ? []
      : [finding(`there is no Node ${nodeName}`, "set --hostname-override to this node's name", RBAC)]
  } catch {
    // What is in the way is the finding of another check.
    return []
  }
}

async function read(response: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

async function checkClock(api: ApiClient): Promise<Finding[]> {
  try {
    const response = await api.get('/version', {}, AbortSignal.timeout(ANSWER_MS))
    response.destroy()
    const skew = Date.now() - Date.parse(response.headers.date ?? '')
    if (!(Math.abs(skew) > SKEW_MS)) return []
    const seconds = Math.round(Math.abs(skew) / 1_000)
    return [
      finding(
        `this node's clock is ${seconds} s ${skew > 0 ? 'ahead of' : 'behind'} the API server's`,
        'see that chronyd or systemd-timesyncd runs',
      ),
    ]
  } catch {
    return []
  }
}

export function apiChecks({ config, nodeName, manifests, master }: ApiChecksOptions): Check[] {
  if (manifests !== undefined) return []
  const open = (): ApiClient =>
    openApiClient(
      () => loadKubeConfig(config.kubeconfig, master),
      () => undefined,
    )
  const check = (category: Category, look: (api: ApiClient) => Promise<Finding[]>): Check => ({
    category,
    run: async () => look(open()),
  })
  return [
    check('api', checkAccess),
    check('api', (api) => checkNode(api, nodeName)),
    check('clock', checkClock),
  ]
}
