/** What a random test has met: one that never meets what it is about proves nothing. */
import { expect } from 'chai'

export class Coverage {
  readonly #seen = new Map<string, number>()

  note(name: string): void {
    this.#seen.set(name, (this.#seen.get(name) ?? 0) + 1)
  }

  expectAll(...names: readonly string[]): void {
    for (const name of names) expect(this.#seen.get(name) ?? 0, `cases of "${name}"`).to.be.greaterThan(0)
  }
}
