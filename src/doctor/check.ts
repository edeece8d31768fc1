/** What the doctor looks at: each check stands alone, so that one that fails or hangs never hides the others. */

export const CATEGORIES = [
  'config',
  'process',
  'capabilities',
  'kernel',
  'modules',
  'schedulers',
  'sysctls',
  'iptables',
  'ipset',
  'bridges',
  'firewall',
  'conflicts',
  'api',
  'clock',
] as const

export type Category = (typeof CATEGORIES)[number]

/** Something that is wrong. */
export interface Finding {
  readonly what: string
  /** A command, or what to do. */
  readonly remedy: string
  /** Where that is explained. */
  readonly docs: string
  /** Nothing is wrong, but good to know: something could not be looked at, or is so by hand. */
  readonly isNote?: boolean
}

export interface Check {
  readonly category: Category
  /** What it throws is a finding, too. */
  readonly run: () => Promise<readonly Finding[]>
}

/** What came of a category. */
export interface Diagnosis {
  readonly category: Category
  readonly findings: readonly Finding[]
}

/** A check that takes longer hangs. */
const LIMIT_MS = 8_000

const DOCS = 'docs/operations.md#when-something-fails'

export function finding(what: string, remedy: string, docs = DOCS): Finding {
  return { what, remedy, docs }
}

/** Of what is no fault. */
export function note(what: string, remedy: string, docs = DOCS): Finding {
  return { ...finding(what, remedy, docs), isNote: true }
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error
  return cause instanceof Error ? `${message}: ${cause.message}` : message
}

async function runOne({ category, run }: Check): Promise<readonly Finding[]> {
  const late = Promise.withResolvers<readonly Finding[]>()
  const timer = setTimeout(() => {
    late.resolve([finding(`${category}: no answer for ${LIMIT_MS / 1_000} s`, 'look at it by hand')])
  }, LIMIT_MS)
  try {
    return await Promise.race([run(), late.promise])
  } catch (error) {
    return [finding(reasonOf(error), 'see the reason')]
  } finally {
    clearTimeout(timer)
  }
}

/** Several checks may come to the same. */
function unique(findings: readonly Finding[]): Finding[] {
  return [...new Map(findings.map((one) => [one.what, one])).values()]
}

/** Runs checks side by side; the categories are in their order. */
export async function diagnose(checks: readonly Check[]): Promise<Diagnosis[]> {
  const found = await Promise.all(
    checks.map(async (check) => ({ category: check.category, findings: await runOne(check) })),
  )
  return CATEGORIES.filter((category) => checks.some((check) => check.category === category)).map(
    (category) => ({
      category,
      findings: unique(found.filter((one) => one.category === category).flatMap(({ findings }) => findings)),
    }),
  )
}
