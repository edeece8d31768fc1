/** The programs of iptables on a node, in memory. */
import type { Host } from '../../src/kernel/filter/iptables-host.ts'
import { parseSave, type SavedRules } from '../../src/kernel/filter/iptables-save.ts'

/** The builtin chains that jumps of ours are in. */
const EMPTY = `*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*mangle
:OUTPUT ACCEPT [0:0]
COMMIT
`

export type Tables = Map<string, Map<string, string[]>>

export function tablesOf(saved: SavedRules): Tables {
  return new Map(
    [...saved].map(([table, chains]) => [
      table,
      new Map([...chains].map(([name, rules]) => [name, [...rules]])),
    ]),
  )
}

export function textOf(tables: Tables): string {
  return [...tables]
    .map(([table, chains]) => {
      const names = [...chains.keys()].map((chain) => `:${chain} - [0:0]\n`)
      const rules = [...chains].flatMap(([chain, content]) => content.map((rule) => `-A ${chain} ${rule}\n`))
      return [`*${table}\n`, ...names, ...rules, 'COMMIT\n'].join('')
    })
    .join('')
}

export interface Failure {
  readonly code: string | number
  readonly stderr?: string
  readonly killed?: boolean
}

export function failed(failure: Failure): Error {
  return Object.assign(new Error('Command failed'), failure)
}

/** One variant of iptables, for both families, on a node where its tables are. */
export class FakeHost implements Host {
  tables = tablesOf(parseSave(EMPTY))
  version = 'v1.8.9'
  /** What the next restores fail with, by what they are asked to write. */
  refuse: (input: string) => Failure | undefined = () => undefined
  /** How this release prints what it holds. */
  print: (text: string) => string = (text) => text
  readonly calls: string[] = []

  run(program: string, args: readonly string[], input?: string): Promise<string> {
    this.calls.push([program, ...args].join(' '))
    if (!/^ip6?tables-(nft-)?(save|restore)$/.test(program)) return Promise.reject(failed({ code: 'ENOENT' }))
    if (args[0] === '--version') return Promise.resolve(`iptables ${this.version} (nf_tables)\n`)
    if (program.endsWith('-save')) return Promise.resolve(this.print(textOf(this.tables)))
    const failure = this.refuse(input!)
    if (failure !== undefined) return Promise.reject(failed(failure))
    this.#restore(input!)
    return Promise.resolve('')
  }

  /** As iptables does: a chain that is used, or not empty, stays, and that is an error. */
  #deleteChain(chains: Map<string, string[]>, name: string): void {
    const isUsed = [...chains.values()]
      .flat()
      .some((rule) => rule.endsWith(` -j ${name}`) || rule === `-j ${name}`)
    if (isUsed || chains.get(name)!.length > 0) throw new Error(`chain ${name} is used or not empty`)
    chains.delete(name)
  }

  legacyTables(): Promise<string> {
    return Promise.resolve('')
  }

  /** As `iptables-restore --noflush`: a chain that is named is emptied. */
  #restore(input: string): void {
    let chains = new Map<string, string[]>()
    for (const line of input.split('\n')) {
      const [word = '', name = '', ...rest] = line.replace(/^([*:])/, '$1 ').split(' ')
      if (word === '*') chains = this.tables.get(name)!
      else if (word === ':') chains.set(name, [])
      else if (word === '-A') chains.get(name)!.push(rest.join(' '))
      else if (word === '-I') chains.get(name)!.unshift(rest.slice(1).join(' '))
      else if (word === '-D') remove(chains.get(name)!, rest.join(' '))
      else if (word === '-X') this.#deleteChain(chains, name)
    }
  }
}

/** As iptables does: it is an error where there is no such rule. */
function remove(rules: string[], rule: string): void {
  const i = rules.indexOf(rule)
  if (i < 0) throw new Error(`there is no rule ${rule}`)
  rules.splice(i, 1)
}
