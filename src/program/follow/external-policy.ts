/** The file that says which external addresses namespaces may have: beside the configuration, optional, and followed. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Logger } from 'pino'
import { parseExternalPolicy } from '../../config/external-policy.ts'
import type { ExternalPolicy } from '../../model/claims/external-policy.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { Current } from '../current.ts'
import type { Life } from '../life.ts'
import type { RecordNodeEvent } from '../report/node-events.ts'
import { recordRefusal } from './configuration.ts'
import { watchFile } from './watch-file.ts'

const NAME = 'external-addresses.yaml'

/** Where it is, or would be: in the same ConfigMap. */
export function policyFileBeside(configFile: string): string {
  return join(dirname(configFile), NAME)
}

/** The file, and what it says. */
export interface PolicyFile {
  readonly file: string
  /** Empty where there is no file. */
  readonly text: string
  /** Undefined where there is no file: then every namespace may have any address. */
  readonly policy: ExternalPolicy | undefined
}

/** Reads the file, where there is one. Throws an Error that names it. */
export async function openPolicy(file: string): Promise<PolicyFile> {
  const text = await readPolicyText(file)
  return { file, text, policy: policyOf(file, text) }
}

/** Its text; empty where there is no file. Throws an Error that names it. */
async function readPolicyText(file: string): Promise<string> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw new Error(`Cannot read ${file}: ${(cause as Error).message}`, { cause })
  }
  if (text.trim() !== '') return text
  throw new Error(`Cannot use ${file}: it is empty; without it, every namespace may have any address`)
}

/** What the text says; undefined for none. Throws ConfigError. */
function policyOf(file: string, text: string): ExternalPolicy | undefined {
  return text === '' ? undefined : parseExternalPolicy(file, text)
}

/** What a new list is applied to. */
export interface PolicyUsers {
  readonly current: Pick<Current, 'policy'>
  readonly cluster: Pick<Cluster, 'markExposed'>
  readonly recordNodeEvent: RecordNodeEvent
  readonly life: Pick<Life, 'signal'>
  readonly log: Logger
}

/** Follows the file until the program ends. What cannot be used leaves the list as it is, and is told. */
export function followPolicy({ file, text: initial }: PolicyFile, users: PolicyUsers): void {
  watchFile({
    ...{ file, initial, read: readPolicyText, log: users.log, signal: users.life.signal },
    onText: (text) => {
      applyPolicy(file, text, users)
      return Promise.resolve()
    },
    onRefusal: (reason) => {
      recordRefusal(users.recordNodeEvent, reason)
    },
  })
}

/** Throws ConfigError, and then changes nothing. */
export function applyPolicy(
  file: string,
  text: string,
  { current, cluster, recordNodeEvent, log }: Omit<PolicyUsers, 'life'>,
): void {
  current.policy = policyOf(file, text)
  if (current.policy === undefined) tellPolicyGone(file, recordNodeEvent, log)
  else log.info({ file, namespaces: current.policy.size }, 'applied the list of external addresses')
  cluster.markExposed()
}

/** What restricted everybody is gone: nobody should learn of it by what happens then. */
function tellPolicyGone(file: string, recordNodeEvent: RecordNodeEvent, log: Logger): void {
  const note = `There is no ${file} any more: every namespace may have any external address`
  log.warn(note)
  recordNodeEvent({
    type: 'Warning',
    reason: 'ExternalAddressPolicyGone',
    action: 'ReadConfiguration',
    note,
  })
}
