/**
 * The addresses that the program itself speaks to: an external IP of a Service that is one of them would cut it off.
 * In a Pod the API server's may be a cluster IP, the Service kubernetes', which is served all the same.
 */
import { lookup as dnsLookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { KubeConfig } from '@kubernetes/client-node'
import type { Logger } from 'pino'
import { type Address, parseAddress, withoutBrackets } from '../model/address.ts'
import { type Alarm, openAlarm } from '../waiting/alarm.ts'
import { isSameSet } from './same-set.ts'

/** A name server may take as long as it likes. */
const LOOK_UP_MS = 5_000
/** From the end of one look to the next, however often one is asked for. */
const LEAST_PAUSE_MS = 10_000
/** And up to half as long again, so that not all nodes ask at once. */
const PAUSE_MS = 300_000

/** A host that requests go to, or through. */
export interface ApiHost {
  /** A name, or an address without brackets. */
  readonly name: string
  /** It is reached through a proxy, which may be the only one that knows the name. */
  readonly isBehindProxy: boolean
}

/** The host of a URL; undefined when it is none. */
function hostOf(url: string): string | undefined {
  const host = URL.canParse(url) ? withoutBrackets(new URL(url).hostname) : ''
  return host === '' ? undefined : host
}

/**
 * The hosts of a kubeconfig's current cluster: its server, and the proxy before it. client-node 2.0.1 asks no other proxy:
 * it has agents of its own, which know nothing of HTTPS_PROXY and NO_PROXY.
 */
export function apiHosts(config: KubeConfig): readonly ApiHost[] {
  const cluster = config.getCurrentCluster()
  const proxy = hostOf(cluster?.proxyUrl ?? '')
  const server = hostOf(cluster?.server ?? '')
  const hosts = [
    ...(server === undefined ? [] : [{ name: server, isBehindProxy: proxy !== undefined }]),
    ...(proxy === undefined ? [] : [{ name: proxy, isBehindProxy: false }]),
  ]
  // One host may be both: then it is the one that we connect to.
  return hosts.filter(({ name, isBehindProxy }) => !isBehindProxy || name !== proxy)
}

/** Without a zone, which says on which link an address is. */
function addressOf(text: string): Address | undefined {
  return parseAddress(text.replace(/%.*$/, ''))
}

/** All addresses of a name, as getaddrinfo has them: /etc/hosts counts. Rejects when there is none. */
export type LookUp = (name: string) => Promise<readonly string[]>

const lookUpHost: LookUp = async (name) => {
  const found = await dnsLookup(name, { all: true })
  return found.map(({ address }) => address)
}

/** Rejects when it takes too long. What comes later is dropped. */
async function inTime<Value>(value: Promise<Value>): Promise<Value> {
  const late = Promise.withResolvers<never>()
  const refuse = (): void => {
    late.reject(new Error(`no answer from the name service in ${LOOK_UP_MS / 1000} s`))
  }
  const timer = setTimeout(refuse, LOOK_UP_MS)
  timer.unref()
  try {
    return await Promise.race([value, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

export interface ApiAddressOptions {
  /** Read anew for each look: a kubeconfig may change. May throw. */
  readonly config: () => KubeConfig
  /** Called with every set that differs from the one before, the first one from none. */
  readonly onChange: (addresses: ReadonlySet<Address>) => void
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
  readonly lookUp?: LookUp
  /** From 0 to 1; for jitter. */
  readonly random?: () => number
  readonly alarm?: Alarm
}

export interface ApiAddresses {
  /** A request has failed: perhaps a name has another address now. Looks at most every 10 s. */
  lookAgain(): void
  /** Resolves after the first look, whatever came of it. Never rejects. */
  readonly ready: Promise<void>
}

/** What is known, and what has been said. */
interface State {
  /** By host. */
  known: ReadonlyMap<string, readonly Address[]>
  /** Hosts whose look-up fails, which has been said; the empty name stands for the kubeconfig. */
  readonly failing: Set<string>
  reported: ReadonlySet<Address>
}

const CANNOT_LOOK_UP = 'cannot look up a host of the API server: an external IP may take its address'

/** The addresses of a host. One that cannot be looked up keeps what it had. */
async function addressesOf(
  { log, lookUp = lookUpHost }: ApiAddressOptions,
  { known, failing }: State,
  { name, isBehindProxy }: ApiHost,
): Promise<readonly Address[]> {
  try {
    const found = isIP(name) > 0 ? [name] : await inTime(lookUp(name))
    if (failing.delete(name)) log.info({ host: name }, 'looked up the host of the API server again')
    return found.flatMap((text) => addressOf(text) ?? [])
  } catch (err) {
    const addresses = known.get(name) ?? []
    const level = failing.has(name) || isBehindProxy ? 'debug' : 'warn'
    log[level]({ err, host: name, addresses }, CANNOT_LOOK_UP)
    if (!isBehindProxy) failing.add(name)
    return addresses
  }
}

/** Undefined, and said once, when the kubeconfig cannot be read. */
function hostsOf({ config, log }: ApiAddressOptions, { failing }: State): readonly ApiHost[] | undefined {
  try {
    const hosts = apiHosts(config())
    failing.delete('')
    return hosts
  } catch (err) {
    log[failing.has('') ? 'debug' : 'warn']({ err }, 'cannot read who the API server is: what is known stays')
    failing.add('')
    return undefined
  }
}

async function look(options: ApiAddressOptions, state: State): Promise<void> {
  const hosts = hostsOf(options, state)
  if (hosts === undefined) return
  const found = await Promise.all(
    hosts.map(async (host) => [host.name, await addressesOf(options, state, host)] as const),
  )
  state.known = new Map(found)
  const addresses = new Set([...state.known.values()].flat())
  if (options.signal.aborted || isSameSet(state.reported, addresses)) return
  state.reported = addresses
  options.onChange(addresses)
}

/** Looks now, every 5 minutes or so, and when it is asked to, until the signal aborts. Never throws. */
export function followApiAddresses(options: ApiAddressOptions): ApiAddresses {
  const { signal, random = Math.random, alarm = openAlarm() } = options
  const state: State = { known: new Map(), failing: new Set(), reported: new Set() }
  const ready = look(options, state)
  const run = async (): Promise<void> => {
    await ready
    for (;;) {
      await alarm.wait(LEAST_PAUSE_MS, PAUSE_MS * (1 + random() / 2), signal)
      if (signal.aborted) return
      await look(options, state)
    }
  }
  void run()
  return { lookAgain: () => alarm.ring(), ready }
}
