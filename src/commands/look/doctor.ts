/** `kube-ipvs doctor`: what is wrong on this node, and what to do. It needs no running program, no API server, no module. */
import { hostname } from 'node:os'
import { type Config, defaultConfig } from '../../config/config.ts'
import { apiChecks } from '../../doctor/api-checks.ts'
import {
  CATEGORIES,
  type Category,
  type Check,
  diagnose,
  type Diagnosis,
  finding,
} from '../../doctor/check.ts'
import { hostChecks } from '../../doctor/host-checks.ts'
import { kernelChecks } from '../../doctor/kernel-checks.ts'
import { neighbourChecks } from '../../doctor/neighbour-checks.ts'
import { processChecks } from '../../doctor/process-checks.ts'
import { supportedFamilies } from '../../kernel/host/families.ts'
import { loadAddon } from '../../netlink/socket.ts'
import { API_VERSION, type VirtualServerList } from '../../view/documents.ts'
import { ask } from './ask.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { nameNode, readConfig } from '../configuration.ts'
import { orPrintError, OUTPUT, print } from './output.ts'

interface Doctored {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'Diagnosis'
  readonly categories: readonly Diagnosis[]
}

/** What means nothing without a configuration. */
const CONFIGURED: ReadonlySet<Category> = new Set<Category>(['schedulers', 'iptables'])

/** The configuration, or its defaults where it is broken, which is a finding. */
async function configOf(
  context: CommandContext,
): Promise<{ readonly config: Config; readonly check: Check; readonly isBroken: boolean }> {
  try {
    const { loaded } = await readConfig(context)
    const check: Check = { category: 'config', run: () => Promise.resolve([]) }
    return { config: loaded.config, check, isBroken: false }
  } catch (error) {
    const found = [
      finding(
        (error as Error).message,
        'mend it: until then, schedulers and rules are not looked at, and the rest goes by the defaults',
      ),
    ]
    const check: Check = { category: 'config', run: () => Promise.resolve(found) }
    return { config: defaultConfig(), check, isBroken: true }
  }
}

export function formatDiagnosis({ categories }: Doctored): string[] {
  const width = Math.max(...categories.map(({ category }) => category.length)) + 2
  return categories.flatMap(({ category, findings }) => {
    if (findings.length === 0) return [`${category.padEnd(width)}ok`]
    return findings.flatMap(({ what, remedy, docs, isNote }) => [
      `${category.padEnd(width)}${isNote === true ? '-' : '!'} ${what}`,
      `${' '.repeat(width + 2)}remedy: ${remedy}`,
      `${' '.repeat(width + 2)}see ${docs}`,
    ])
  })
}

/** Everything that is wrong, or what is of one category. */
export async function examine(context: CommandContext): Promise<Doctored> {
  const { commandLine, log } = context
  const { config, check, isBroken } = await configOf(context)
  // What is found is the result: the log is not.
  log.level = 'silent'
  const [families, addon] = [await supportedFamilies(), loadAddon()]
  const { name: nodeName } = nameNode(commandLine, config, hostname())
  const kernel = kernelChecks({ addon, config, families })
  const question = (): Promise<VirtualServerList> =>
    ask(commandLine.localSocket, '/v1/failing-virtual-servers', {})
  const all = [
    check,
    ...processChecks(question),
    ...hostChecks({ config, families }),
    ...kernel.checks,
    ...neighbourChecks(config),
    ...apiChecks({ config, nodeName, manifests: commandLine.manifests, master: commandLine.master }),
  ]
  const { only } = commandLine.options
  const isAsked = ({ category }: Check): boolean =>
    (only === undefined || category === only) && !(isBroken && CONFIGURED.has(category))
  const categories = await diagnose(all.filter(isAsked))
  kernel.close()
  return { apiVersion: API_VERSION, kind: 'Diagnosis', categories }
}

async function doctor(context: CommandContext): Promise<ExitCode> {
  context.log.level = 'error'
  const diagnosis = await examine(context)
  print(context, diagnosis, formatDiagnosis)
  const isWell = ({ findings }: Diagnosis): boolean => findings.every(({ isNote }) => isNote === true)
  return diagnosis.categories.every(isWell) ? 0 : 1
}

export const DOCTOR: Command = {
  name: 'doctor',
  description: 'look for what is wrong on this node, each with its remedy; exit code 1 where something is',
  options: [{ flags: '--only <category>', help: 'look at this only', choices: CATEGORIES }, OUTPUT],
  exitCodes: ['nothing is wrong', 'something is wrong', 'it could not be found out'],
  run: (context) => orPrintError(() => doctor(context), 2),
}
