/** From nothing to the first step: the kernel is read while facts are listed, then everything is made that is wanted. */
import type { KernelObject } from '../model/kernel-object.ts'
import { planRelease } from '../plan/release.ts'
import { awaitedLater } from '../waiting/promises.ts'
import { awaitLists } from './intake/lists.ts'
import type { Parts } from './parts.ts'
import { guarded, queueEverything, readKernel } from './recovery.ts'

/** The API server may come late: what the kernel has shown so long ago is not relied upon. */
const STALE_MS = 120_000

/** Returns when what is wanted is on its way, or the signal aborts. Never throws. */
export async function start(parts: Parts, signal: AbortSignal): Promise<void> {
  const { audits, auditor, options } = parts
  const { doorbell, now } = options
  const started = now()
  let isRead = false
  // What it throws is dealt with when all is listed: only one at a time can wait at the doorbell.
  const reading = awaitedLater(
    auditor.readAll().then(() => {
      queueEverything(parts)
      isRead = true
      doorbell.ring()
    }),
  )
  await awaitLists({ ...options, mapper: parts.mapper }, signal, () =>
    guarded(parts, signal, () => (isRead ? freeAddresses(parts) : Promise.resolve())),
  )
  await guarded(parts, signal, () => reading)
  if (now() - started < STALE_MS) audits.finish()
  else await readKernel(parts, signal)
  if (!signal.aborted) await guarded(parts, signal, () => beginRound(parts, signal))
}

/** What whoever was here before has bound may be what keeps everything from being listed, for ever. */
async function freeAddresses({ applier, auditor, options }: Parts): Promise<void> {
  const { log, addressesToFree } = options
  const { known, foreign } = auditor
  const addresses = addressesToFree()
  const operations = planRelease(addresses, known, foreign)
  if (operations.length === 0) return
  log.warn({ addresses: [...addresses] }, 'the address of the API server is bound on this node: unbinding it')
  await applier.apply(operations, 'unbound the address of the API server')
}

/**
 * The last Services are mapped while those before them are on their way into the kernel. The oldest come first, as they
 * win conflicts: what is planned for one is not changed by another. What nobody wants waits until all are mapped.
 */
async function beginRound({ intake, mapper, round }: Parts, signal: AbortSignal): Promise<void> {
  intake.take()
  intake.begin()
  await mapper.mapExposed()
  await round.bring(untilAborted(mapper.mapAll(), signal))
}

function* untilAborted(objects: Iterable<KernelObject>, signal: AbortSignal): Generator<KernelObject> {
  for (const object of objects) {
    if (signal.aborted) return
    yield object
  }
}
