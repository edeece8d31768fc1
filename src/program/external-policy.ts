/** The file that says which external addresses namespaces may have: beside the configuration, and optional. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseExternalPolicy } from '../config/external-policy.ts'
import type { ExternalPolicy } from '../model/claims/external-policy.ts'

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
export async function readPolicyText(file: string): Promise<string> {
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
export function policyOf(file: string, text: string): ExternalPolicy | undefined {
  return text === '' ? undefined : parseExternalPolicy(file, text)
}
