/**
 * Who may read the status page: a browser that was told to open this very address. A page of somebody else must not read
 * it through the browser of whoever may: not by a name of its own that leads here (DNS rebinding), not from its frames.
 */
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { withoutBrackets } from '../model/address.ts'
import { type Answer, type Fence, PLAIN } from './http.ts'

const LONGEST_URL = 1_024
/** Everything comes from here, nothing goes elsewhere, and nobody frames it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')
const HEADERS = {
  'Content-Security-Policy': POLICY,
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}
/** Of Sec-Fetch-Site: the page itself, or a person who has typed the address. */
const OWN_SITES: readonly (string | undefined)[] = ['same-origin', 'none', undefined]

function refusal(status: number, sentence: string, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, type: PLAIN, body: `${sentence}\n`, headers }
}

/** A name that only this node has: no name server of somebody else can make it lead here. */
function isOwnHost(host: string, nodeName: string): boolean {
  const [, name] = /^(\[[^\]]*\]|[^:]*)(?::\d{1,5})?$/.exec(host.toLowerCase()) ?? []
  if (name === undefined) return false
  if (name.startsWith('[')) return isIP(withoutBrackets(name)) === 6
  return name === 'localhost' || name === nodeName.toLowerCase() || isIP(name) === 4
}

/** `/status` and all below it. */
export function statusFence(nodeName: string): Fence {
  return {
    covers: (path) => path === '/status' || path.startsWith('/status/'),
    headers: HEADERS,
    refuse: ({ method, url = '/', headers, headersDistinct }: IncomingMessage) => {
      const hosts = headersDistinct.host ?? []
      if (hosts.length !== 1 || !isOwnHost(hosts[0]!, nodeName))
        return refusal(403, 'Ask for this page by an IP address, by localhost, or by the name of this node')
      if (!OWN_SITES.includes(headers['sec-fetch-site']))
        return refusal(403, 'Open this page by its address: other sites may not lead to it')
      if (method !== 'GET' && method !== 'HEAD')
        return refusal(405, 'This page can only be read', { Allow: 'GET, HEAD' })
      if (url.length > LONGEST_URL) return refusal(414, `A URL has ${LONGEST_URL} characters at most`)
      return url.startsWith('/') ? undefined : refusal(400, 'A request names a path, and no other host')
    },
  }
}
