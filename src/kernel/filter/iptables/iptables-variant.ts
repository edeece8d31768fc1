/** The kernel has two places for rules of iptables, and each has programs of its own: rules belong where the host's are. */
import { FAMILIES, type Family } from '../../../model/address.ts'
import { type Host, programOf, type Variant, type VariantName, VARIANTS } from './iptables-host.ts'
import { parseSave } from './iptables-save.ts'

/** Chains by which kubelet says which variant it uses: in table mangle, since Kubernetes 1.17. */
const HINTS = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY']

/** Which programs the host uses. */
export interface IptablesVariant {
  readonly name: VariantName
  /** For the log: "kubelet's chains are there". */
  readonly reason: string
  /** What its programs have just printed, by family, where they have. */
  readonly texts: ReadonlyMap<Family, string>
  /** What a program has said of its version, where one was asked. */
  readonly version?: string
}

interface Candidate {
  readonly name: Variant
  readonly hasHint: boolean
  readonly rules: number
  readonly texts: ReadonlyMap<Family, string>
}

const NO_TEXTS: ReadonlyMap<Family, string> = new Map()

/**
 * Which variant the host uses, in the manner of kubernetes-sigs/iptables-wrappers: the one with kubelet's chains,
 * else the one with more rules, else the plain programs. One whose programs do not work is out. Never throws.
 */
export async function detectVariant(host: Host): Promise<IptablesVariant> {
  const found = await Promise.all(VARIANTS.map((name) => inspect(host, name)))
  const candidates = found.filter((candidate) => candidate !== undefined)
  const chosen = ({ name, texts }: Candidate, reason: string): IptablesVariant => ({ name, texts, reason })
  const hinted = candidates.find(({ hasHint }) => hasHint)
  if (hinted !== undefined) return chosen(hinted, "kubelet's chains are there")
  const [first, second] = candidates.sort((a, b) => b.rules - a.rules)
  if (first !== undefined && first.rules > (second?.rules ?? 0)) return chosen(first, 'most rules are there')
  // Empty legacy tables were not looked at: their programs need not be there.
  const proven = await Promise.all(
    candidates.map(async (one) => {
      const version = await provenVersion(host, one)
      return version === undefined ? [] : [{ ...one, version }]
    }),
  )
  const [only, other] = proven.flat()
  if (only === undefined)
    return { name: 'default', reason: 'neither variant has programs that work', texts: NO_TEXTS }
  if (other === undefined) return chosen(only, 'only its programs work')
  const isEmpty = [only, other].every(({ texts }) => [...texts.values()].join('') === '')
  return {
    name: 'default',
    reason: 'both variants have as many rules',
    // The plain programs are one of the two.
    texts: isEmpty ? only.texts : NO_TEXTS,
    version: only.version || other.version,
  }
}

/** What a program of a variant says of its version, where it had to be asked whether it works; undefined: it does not. */
async function provenVersion(host: Host, { name, rules }: Candidate): Promise<string | undefined> {
  if (name === 'nft' || rules > 0) return ''
  return host.run(programOf('IPv4', name, 'save'), ['--version']).catch(() => undefined)
}

async function inspect(host: Host, name: Variant): Promise<Candidate | undefined> {
  const looks = FAMILIES.map(async (family) => {
    const text = await look(host, family, name).catch(() => undefined)
    return text === undefined ? [] : [[family, text] as const]
  })
  const texts = new Map((await Promise.all(looks)).flat())
  if (texts.size === 0) return undefined
  const saved = [...texts.values()]
  return {
    name,
    hasHint: saved.some((text) => HINTS.some((hint) => parseSave(text).get('mangle')?.has(hint) === true)),
    rules: saved.join('\n').match(/^-A /gm)?.length ?? 0,
    texts,
  }
}

/** What a variant holds. Looking at legacy tables may make them, so it is done only where there are some. */
export async function look(host: Host, family: Family, name: Variant): Promise<string> {
  const program = programOf(family, name, 'save')
  const isEmpty = name === 'legacy' && (await host.legacyTables(family)).trim() === ''
  return isEmpty ? '' : host.run(program, [])
}
