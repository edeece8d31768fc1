/** What `iptables-save` prints, read. Pure. */

export type TableName = 'nat' | 'filter' | 'mangle'

/** The tables that have something of ours. */
export const TABLES: readonly TableName[] = ['nat', 'filter', 'mangle']

/** Rules by table and chain, as `iptables-save` prints them, without `-A CHAIN`. */
export type SavedRules = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>

/** Reads the output of `iptables-save`. */
export function parseSave(text: string): SavedRules {
  const tables = new Map<string, Map<string, string[]>>()
  let chains = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [, mark, name = '', rest = ''] = /^(\*|:|-A )(\S+) ?(.*)$/.exec(line) ?? []
    if (mark === '*') tables.set(name, (chains = new Map<string, string[]>()))
    else if (mark === ':') chains.set(name, [])
    else if (mark === '-A ') chains.get(name)?.push(rest)
  }
  return tables
}
