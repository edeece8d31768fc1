/** Brings objects into the kernel a batch at a time: while some are on their way, the next one is planned. */
import type { KernelObject } from '../model/kernel-object.ts'
import type { Operation, OperationKind } from '../model/operation.ts'
import { Plan } from '../plan/plan.ts'
import { awaitedLater } from '../waiting/promises.ts'
import { breathe } from '../waiting/turns.ts'
import type { Queue } from './queue.ts'

/** Objects planned in one go: nothing else gets its turn meanwhile. */
const OBJECTS_PER_SLICE = 100
/** Operations that are handed to the kernel together. */
const OPERATIONS_PER_BATCH = 2_000
/** Batches that are on their way together: enough that the kernel does not wait for the next one to be planned. */
const BATCHES_AT_ONCE = 4

/** Operations that take nothing away from anybody. */
const MAKING: ReadonlySet<OperationKind> = new Set([
  'addSetMember',
  'createVirtualServer',
  'createRealServer',
  'bindAddress',
])

/** Objects, and what brings them to what is wanted. */
export interface Batch {
  readonly objects: readonly KernelObject[]
  readonly operations: readonly Operation[]
}

export interface BatchOptions {
  readonly queue: Pick<Queue, 'begin'>
  /** Adds what is to be done about objects to a plan. */
  readonly planObjects: (plan: Plan, objects: readonly KernelObject[]) => void
  /** Throws when the kernel cannot say what became of a batch. */
  readonly apply: (batch: Batch) => Promise<void>
  /** Monotonic, in ms. */
  readonly now: () => number
}

/**
 * Plans and applies objects until none is left, or, after a batch, it is `until`. Objects that are not ready are passed
 * over. Throws what `apply` throws, when nothing is on its way any more.
 */
export async function runBatches(
  objects: Iterator<KernelObject>,
  until: number,
  options: BatchOptions,
): Promise<void> {
  const onTheWay: Promise<void>[] = []
  let couldOverlap = true
  try {
    for (;;) {
      const batch = await nextBatch(objects, options)
      if (batch === undefined) break
      const overlaps = couldOverlap && canOverlap(batch)
      couldOverlap = canOverlap(batch)
      while (onTheWay.length >= (overlaps ? BATCHES_AT_ONCE : 1)) await onTheWay.shift()
      onTheWay.push(awaitedLater(options.apply(batch)))
      if (options.now() >= until) break
    }
  } finally {
    await Promise.allSettled(onTheWay)
  }
  await Promise.all(onTheWay)
}

/**
 * A batch may be on its way together with one before it when both only make, and it begins with set members: messages of
 * one kind go one after the other, so everything that follows its set members comes after the batch before it.
 */
function canOverlap({ operations }: Batch): boolean {
  return operations[0]?.kind === 'addSetMember' && operations.every(({ kind }) => MAKING.has(kind))
}

/** Plans the next objects, a slice at a time, until there is enough to do; undefined when none is left. */
async function nextBatch(
  objects: Iterator<KernelObject>,
  { queue, planObjects }: BatchOptions,
): Promise<Batch | undefined> {
  const begun: KernelObject[] = []
  const plan = new Plan()
  for (;;) {
    const slice = takeFrom(objects, OBJECTS_PER_SLICE)
    const ready = slice.filter(({ key }) => queue.begin(key))
    begun.push(...ready)
    planObjects(plan, ready)
    if (slice.length < OBJECTS_PER_SLICE || plan.length >= OPERATIONS_PER_BATCH) break
    await breathe()
  }
  return begun.length > 0 ? { objects: begun, operations: plan.operations() } : undefined
}

/** Up to `limit` of them; fewer: there are no more. */
function takeFrom<Item>(items: Iterator<Item>, limit: number): Item[] {
  const taken: Item[] = []
  while (taken.length < limit) {
    const next = items.next()
    if (next.done === true) break
    taken.push(next.value)
  }
  return taken
}
