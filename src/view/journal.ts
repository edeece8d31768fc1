/** What was refused and what was put right: the last of each, for people to read. */
import type { JournalEntry } from './documents.ts'

/** Of each kind. */
const KEPT = 100
/** A reason is read by people. */
const LONGEST_REASON = 300

export interface Journal {
  note(entry: Omit<JournalEntry, 'at'>): void
}

export class RecentJournal implements Journal {
  readonly #now: () => number
  readonly #kept: Record<JournalEntry['kind'], JournalEntry[]> = { refusal: [], repair: [] }

  /** `now` is in ms since the epoch. */
  constructor(now: () => number) {
    this.#now = now
  }

  note({ kind, object, service, reason }: Omit<JournalEntry, 'at'>): void {
    const kept = this.#kept[kind]
    const whose = service === undefined ? {} : { service }
    kept.push({ at: this.#now(), kind, object, ...whose, reason: reason.slice(0, LONGEST_REASON) })
    if (kept.length > KEPT) kept.shift()
  }

  /** The newest first. */
  get entries(): JournalEntry[] {
    return [...this.#kept.refusal, ...this.#kept.repair].sort((a, b) => b.at - a.at)
  }
}
