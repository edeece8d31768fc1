/** After a failed request to the API server: how long to wait, and what to do about it. */
import { setTimeout } from 'node:timers/promises'
import { ApiError } from './api-client.ts'

/** Resolves after `ms`, or when the signal aborts. */
export type Sleep = (ms: number, signal: AbortSignal) => Promise<void>

export const sleep: Sleep = async (ms, signal) => {
  await setTimeout(ms, undefined, { signal }).catch(() => undefined)
}

/**
 * In ms, after `failures` in a row before this one: twice as long each time, from `firstMs` to `longestMs`, or as long
 * as the API server asks.
 */
export function backoffMs(error: unknown, failures: number, firstMs: number, longestMs: number): number {
  const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0
  return Math.max(asked, Math.min(firstMs * 2 ** failures, longestMs))
}

/** What an operator can do; `wanted` is what the program must be allowed, such as `list on nodes`. */
export function remedyOf(error: unknown, wanted: string): string | undefined {
  if (!(error instanceof ApiError)) return undefined
  if (error.status === 401)
    return 'the credentials are not valid: check the token or certificate of the kubeconfig'
  if (error.status === 403) return `grant ${wanted} (deploy/base/rbac.yaml)`
  return undefined
}
