/** Reads JSON that anybody may have written, field by field: what is not as expected is a fault, which names its path. */

/** An object whose fields nobody has looked at yet. */
export type Json = Readonly<Record<string, unknown>>

/** Its message begins with the path of what is at fault, from where it was parsed. */
export class Fault extends Error {}

/** An object; anything else is an empty one. */
export function record(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

/** A list, which in the API may be absent or null. Throws Fault, as all that follow. */
export function list(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return []
  return Array.isArray(value) ? value : fault(path, value, 'a list')
}

/** Throws the Fault of a field. */
export function fault(path: string, value: unknown, expected: string): never {
  throw new Fault(
    `${path} is ${value === undefined ? 'missing' : JSON.stringify(value)}, expected ${expected}`,
  )
}

/** Parses an item of a list: the path of its fault goes on from the list's. Paths are text only where there is a fault. */
export function item<Item>(values: string, i: number, value: unknown, parse: (value: unknown) => Item): Item {
  try {
    return parse(value)
  } catch (error) {
    throw error instanceof Fault ? new Fault(`${values}[${i}]${error.message}`) : error
  }
}

/** A string, which must be there. */
export function text(value: unknown, path = ''): string {
  return typeof value === 'string' ? value : fault(path, value, 'a string')
}

/** An integer within bounds, both included. */
export function integer(value: unknown, path: string, min: number, max: number): number {
  if (Number.isInteger(value) && Number(value) >= min && Number(value) <= max) return Number(value)
  return fault(path, value, `a number from ${min} to ${max}`)
}

/** One of some words; `otherwise` where there is none. */
export function oneOf<T extends string>(value: unknown, path: string, words: readonly T[], otherwise: T): T {
  if (value === undefined || value === null || value === '') return otherwise
  return words.find((word) => word === value) ?? fault(path, value, words.join(', '))
}

const NONE: readonly string[] = []

/** Parses what can be used of a list; each fault costs its own item only. */
export function usableItems<Item>(
  values: readonly unknown[],
  path: string,
  parse: (value: unknown) => Item,
): {
  readonly items: readonly Item[]
  readonly faults: readonly string[]
} {
  try {
    // Nearly always. A list that is mapped takes no more memory than it needs; one that is pushed to has room for 16.
    return { items: values.map((value) => parse(value)), faults: NONE }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
  }
  const items: Item[] = []
  const faults: string[] = []
  values.forEach((value, i) => {
    try {
      items.push(item(path, i, value, parse))
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      faults.push(error.message)
    }
  })
  return { items, faults }
}
