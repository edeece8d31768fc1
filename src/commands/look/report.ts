/** `kube-ipvs report`: all that somebody needs who is asked for help, in one text. There is nothing secret in it. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import packageJson from '../../../package.json' with { type: 'json' }
import { formatVirtualServers } from '../../view/tables.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { readConfig } from '../configuration.ts'
import { examine, formatDiagnosis } from './doctor.ts'
import { findVirtualServers } from './get.ts'

/** A program that takes longer hangs. */
const LIMIT_MS = 20_000
const MOST_BYTES = 64 * 1024 * 1024

interface Section {
  readonly title: string
  readonly read: () => Promise<string>
}

function program(command: string, keep: (line: string) => boolean = () => true): Section {
  const [name, ...args] = command.split(' ')
  const read = async (): Promise<string> => {
    const options = { timeout: LIMIT_MS, maxBuffer: MOST_BYTES }
    const { stdout } = await promisify(execFile)(name!, args, options)
    return stdout.split('\n').filter(keep).join('\n')
  }
  return { title: command, read }
}

/** Rules of other programs are none of ours to show. */
const isOurs = (line: string): boolean => line.includes('KUBE-') || /^[*:]/.test(line)

function sectionsOf(context: CommandContext): Section[] {
  const { localSocket } = context.commandLine
  return [
    {
      title: 'version',
      read: () => Promise.resolve(`kube-ipvs ${packageJson.version}, Node ${process.version}`),
    },
    { title: 'doctor', read: async () => formatDiagnosis(await examine(context)).join('\n') },
    {
      title: 'configuration',
      read: async () => JSON.stringify((await readConfig(context)).loaded.document, undefined, 2),
    },
    {
      title: 'get',
      read: async () => formatVirtualServers(await findVirtualServers(localSocket, '')).join('\n'),
    },
    program('uname -a'),
    program('ip -br address show dev kube-ipvs0'),
    program('ip route show table local proto 73'),
    program('ip -6 route show table local proto 73'),
    program('ipset list -t', (line) => !line.startsWith('initval')),
    program('iptables-save', isOurs),
    program('ip6tables-save', isOurs),
    program('sysctl net.ipv4.vs net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max'),
  ]
}

async function textOf({ title, read }: Section): Promise<string> {
  const text = await read().catch((error: unknown) => `cannot be read: ${(error as Error).message}`)
  return `==> ${title}\n${text.trimEnd()}\n`
}

async function report(context: CommandContext): Promise<ExitCode> {
  context.log.level = 'error'
  const texts = await Promise.all(sectionsOf(context).map(textOf))
  process.stdout.write(texts.join('\n'))
  return 0
}

export const REPORT: Command = {
  name: 'report',
  description: 'print all that is needed to ask for help: nothing in it is secret',
  run: report,
}
