/** Brings objects into the kernel a batch at a time: while one is on its way, the next one is planned. */
import type { ObjectKey } from '../model/kernel-object.ts'
import type { Operation, OperationKind } from '../model/operation.ts'
import { breathe } from '../waiting/turns.ts'
import { Plan } from '../plan/plan.ts'

/** Objects planned in one go: nothing else gets its turn meanwhile. */
const OBJECTS_PER_SLICE = 100
/** Operations that are handed to the kernel together. While it executes them, the next ones are planned. */
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
  readonly keys: readonly ObjectKey[]
  readonly operations: readonly Operation[]
}

/**
 * What is only made may be on its way together with what is made before it: messages of one kind go one after the
 * other, and as it begins with set members, so does everything that depends on them.
 */
function canOverlap({ operations }: Batch): boolean {
  return operations[0]?.kind === 'addSetMember' && operations.every(({ kind }) => MAKING.has(kind))
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

export interface PipelineOptions {
  /** Adds what is to be done about objects. */
  readonly plan: (plan: Plan, keys: readonly ObjectKey[]) => void
  /** Called for each object that gets into a batch. */
  readonly taken: (key: ObjectKey) => void
  readonly apply: (batch: Batch) => Promise<void>
  /** Monotonic. */
  readonly now: () => number
}

export class Pipeline {
  readonly #options: PipelineOptions
  /** Objects that are planned, or on their way into the kernel: none is in two batches. */
  readonly #underWay = new Set<ObjectKey>()

  constructor(options: PipelineOptions) {
    this.#options = options
  }

  /** Forgets what was on its way when the kernel did not answer. */
  clear(): void {
    this.#underWay.clear()
  }

  /** Plans and applies objects until none is left, or, after a batch, it is late. */
  async run(keys: Iterator<ObjectKey>, until: number): Promise<void> {
    const { now } = this.#options
    const underWay: Promise<void>[] = []
    let couldOverlap = true
    try {
      for (
        let batch = await this.#nextBatch(keys);
        batch !== undefined;
        batch = await this.#nextBatch(keys)
      ) {
        const overlaps = couldOverlap
        couldOverlap = canOverlap(batch)
        const atOnce = overlaps && couldOverlap ? BATCHES_AT_ONCE : 1
        while (underWay.length >= atOnce) await underWay.shift()
        const applied = this.#apply(batch)
        // Until it is awaited: what it throws is thrown there.
        applied.catch(() => undefined)
        underWay.push(applied)
        if (now() >= until) break
      }
    } finally {
      await Promise.allSettled(underWay)
    }
    await Promise.all(underWay)
  }

  /** Plans the next objects, a slice at a time, until there is enough to do; undefined when none is left. */
  async #nextBatch(keys: Iterator<ObjectKey>): Promise<Batch | undefined> {
    const taken: ObjectKey[] = []
    const plan = new Plan()
    for (;;) {
      const slice = takeFrom(keys, OBJECTS_PER_SLICE)
      const free = slice.filter((key) => this.#claimTurn(key))
      taken.push(...free)
      this.#options.plan(plan, free)
      if (slice.length < OBJECTS_PER_SLICE || plan.length >= OPERATIONS_PER_BATCH) break
      await breathe()
    }
    return taken.length > 0 ? { keys: taken, operations: plan.operations() } : undefined
  }

  /** False for an object that is in a batch already: it stays pending. */
  #claimTurn(key: ObjectKey): boolean {
    if (this.#underWay.has(key)) return false
    this.#underWay.add(key)
    this.#options.taken(key)
    return true
  }

  async #apply(batch: Batch): Promise<void> {
    await this.#options.apply(batch)
    for (const key of batch.keys) this.#underWay.delete(key)
  }
}
