/** A configuration that cannot be used; the message has a line for each fault. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** What an operator reads of a value that is not as expected. */
export function expected(what: string, found: unknown): string {
  return `expected ${what}, got ${shown(found)}`
}

/** A value in a sentence. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number') return String(value)
  const text = JSON.stringify(value)
  return text.length > 100 ? `${text.slice(0, 100)}...` : text
}
