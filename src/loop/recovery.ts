/** Reading all of the kernel, and what is done when it did not say what became of a change. */
import { backoffMs } from '../waiting/backoff.ts'
import type { Parts } from './parts.ts'

const FIRST_RETRY_MS = 100
const LONGEST_RETRY_MS = 60_000

/**
 * After an action that leaves open what is in the kernel, nothing is planned before all of it has been read. `onRead` is
 * called then. Never throws.
 */
export async function guarded(
  parts: Parts,
  signal: AbortSignal,
  act: () => Promise<void>,
  onRead: () => void = () => undefined,
): Promise<void> {
  try {
    await act()
  } catch (err) {
    // What waited for rules does so no longer; what the kernel has will be read by the next start.
    if (signal.aborted) return
    parts.options.log.warn({ err }, 'the kernel did not answer as it should: reading all of it')
    await readKernel(parts, signal)
    onRead()
  }
}

/** Reads all of the kernel, as often as it takes, and queues every object. */
export async function readKernel(parts: Parts, signal: AbortSignal): Promise<void> {
  const { auditor, audits, options } = parts
  for (let attempt = 1; !signal.aborted; attempt++) {
    try {
      await auditor.readAll()
      break
    } catch (err) {
      options.log.error({ err }, 'cannot read the kernel: retrying')
      await options.doorbell.wait(backoffMs(attempt, FIRST_RETRY_MS, LONGEST_RETRY_MS), signal)
    }
  }
  queueEverything(parts)
  audits.finish()
}

/** What is in the kernel is known: everything that somebody wants, or that is there, may have to change. */
export function queueEverything({ auditor, ledger, queue, options }: Parts): void {
  const { known, foreign } = auditor
  queue.interrupt()
  for (const object of ledger.objects()) queue.add(object)
  for (const object of auditor.objects()) queue.add(object)
  const counts = { virtualServers: known.virtualServers.size, addresses: known.addresses.size }
  options.log.info({ ...counts, foreign: foreign.size }, 'read what is in the kernel')
}
