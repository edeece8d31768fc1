/** The chart in deploy/chart, as helm renders it. */
import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import type { Manifest } from './deploy.ts'

export const CHART = 'deploy/chart'
/** As docs/install.md has it. */
const RELEASE = ['kube-ipvs', CHART, '--namespace']

export type Values = Readonly<Record<string, unknown>>

let path: string | undefined
const program = (): string => (path ??= execFileSync('scripts/helm', { encoding: 'utf8' }).trim())

export interface Ran {
  readonly isGood: boolean
  readonly stdout: string
  readonly stderr: string
}

/** Runs helm, without a cluster unless the environment has one. */
export async function helm(
  args: readonly string[],
  { values, env = {} }: { readonly values?: Values; readonly env?: Record<string, string> } = {},
): Promise<Ran> {
  const running = promisify(execFile)(program(), values === undefined ? args : [...args, '--values', '-'], {
    env: { PATH: process.env.PATH, HOME: '/nonexistent', KUBECONFIG: '/dev/null', ...env },
  })
  running.child.stdin!.end(values === undefined ? '' : JSON.stringify(values))
  return running.then(
    ({ stdout, stderr }) => ({ isGood: true, stdout, stderr }),
    (error: unknown) => ({ ...(error as Ran), isGood: false }),
  )
}

/** What `helm template` says to these values. */
export function template(values: Values, namespace = 'kube-system'): Promise<Ran> {
  return helm(['template', ...RELEASE, namespace], { values })
}

/** What is made of these values in a cluster: `lookup` finds what there is. */
export function templateInCluster(values: Values, kubeconfig: string): Promise<Ran> {
  const args = ['template', ...RELEASE, 'kube-system', '--dry-run=server', '--disable-openapi-validation']
  return helm(args, { values, env: { KUBECONFIG: kubeconfig } })
}

export function objectsIn(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((object) => object !== null)
}

/** The objects of these values. */
export async function renderChart(values: Values, namespace?: string): Promise<Manifest[]> {
  const { isGood, stdout, stderr } = await template(values, namespace)
  if (!isGood) throw new Error(stderr)
  return objectsIn(stdout)
}
