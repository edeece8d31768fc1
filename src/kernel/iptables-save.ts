/** What `iptables-save` prints, read; and the input of `iptables-restore` as commands. Pure. */
import type { Family } from '../model/address.ts'

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

/** The input of `iptables-restore --noflush` as commands that do the same, one after the other. */
export function asCommands(input: string, saved: SavedRules, family: Family): string[] {
  const program = family === 'IPv4' ? 'iptables' : 'ip6tables'
  let table = ''
  return input.split('\n').flatMap((line) => {
    const [, mark, name = '', rest = ''] = /^(\*|:|-)(\S+)(.*)$/.exec(line) ?? []
    const command = (text: string): string[] => [`${program} -t ${table} ${text}`]
    if (mark === '*') table = name
    if (mark === ':') return command(`${saved.get(table)?.has(name) === true ? '-F' : '-N'} ${name}`)
    // In double quotes, a shell keeps the backslash before a single one.
    return mark === '-' ? command(`-${name}${rest.replaceAll("\\'", "'")}`) : []
  })
}
