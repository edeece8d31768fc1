/** After a failed request to the API server: how long to wait, and what to do about it. */
import { backoffMs } from '../waiting/backoff.ts'
import { ApiError } from './api-client.ts'

/** In ms, after one more than `failures` in a row: as `backoffMs` says, or as long as the API server asks. */
export function retryAfterMs(error: unknown, failures: number, firstMs: number, longestMs: number): number {
  const asked = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0
  return Math.max(asked, backoffMs(failures + 1, firstMs, longestMs))
}

/** What an operator can do; `wanted` is what the program must be allowed, such as `list on nodes`. */
export function remedyOf(error: unknown, wanted: string): string | undefined {
  if (!(error instanceof ApiError)) return undefined
  if (error.status === 401)
    return 'the credentials are not valid: check the token or certificate of the kubeconfig'
  if (error.status === 403) return `grant ${wanted} (deploy/base/rbac.yaml)`
  return undefined
}
